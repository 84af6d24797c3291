import { strings } from "@/lib/strings";
import { Button } from "./ui/button";

/** The rest of a cursor page. */
export function LoadMore({ query }: { query: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown } }) {
  if (!query.hasNextPage) return null;
  return (
    <div className="mt-4">
      <Button busy={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
        {strings.common.loadMore}
      </Button>
    </div>
  );
}
