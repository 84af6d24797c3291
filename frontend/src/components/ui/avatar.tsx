import { cn } from "@/lib/cn";

function initials(name: string): string {
  const words = name.trim().split(/\s+/);
  const first = words[0] ?? "";
  const last = words.length > 1 ? (words.at(-1) ?? "") : "";
  return last ? `${first[0] ?? ""}${last[0] ?? ""}`.toUpperCase() : first.slice(0, 2);
}

/** Initials: round for a person, square for an agent. */
export function Avatar({ name, shape = "round", size = "m" }: { name: string; shape?: "round" | "square"; size?: "m" | "l" }) {
  return (
    <span data-slot="avatar" aria-hidden="true" className={cn("avatar", shape === "square" && "sq", size === "l" && "lg")}>
      {initials(name)}
    </span>
  );
}
