import { Primitives } from "./sheet";

export default function Page() {
  return <Primitives />;
}
