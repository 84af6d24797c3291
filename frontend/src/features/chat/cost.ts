import { money } from "@/lib/format";
import { strings } from "@/lib/strings";

const unknown = strings.chat.receipt.unknownPrice;

/** A sum of costs: from ten cents on in whole cents. Unknown as soon as one price in it is. */
export function totalText({ cost_micro_usd: cost, cost_known: known }: { cost_micro_usd: number; cost_known: boolean }): string {
  if (!known) return unknown;
  return cost >= 100_000 ? `$${(Math.ceil(cost / 10_000) / 100).toFixed(2)}` : money(cost, unknown);
}
