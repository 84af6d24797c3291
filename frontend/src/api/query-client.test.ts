import { QueryObserver } from "@tanstack/react-query";

import { newQueryClient, readAgain } from "./query-client";

it("a first answer that is older than the change does not stand", async () => {
  const cache = newQueryClient();
  const answers: ((files: string[]) => void)[] = [];
  const observer = new QueryObserver<string[]>(cache, { queryKey: ["files"], queryFn: () => new Promise((answer) => answers.push(answer)) });
  const leave = observer.subscribe(() => undefined);
  const again = readAgain(cache, ["files"]);
  await vi.waitFor(() => expect(answers).toHaveLength(2));
  answers[0]!([]);
  answers[1]!(["notes.txt"]);
  await again;
  expect(observer.getCurrentResult().data).toEqual(["notes.txt"]);
  leave();
});
