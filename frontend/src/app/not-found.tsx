import { Mark } from "@/components/brand";
import { NotFound } from "@/components/not-found";
import { strings } from "@/lib/strings";

export const metadata = { title: strings.notFound.title };

export default function Page() {
  return (
    <main className="p-6 pt-16">
      <h1 className="mx-auto mb-4 flex max-w-[520px] items-center gap-2 !text-[15px]">
        <span className="live">
          <Mark />
        </span>
        {strings.product}
      </h1>
      <NotFound />
    </main>
  );
}
