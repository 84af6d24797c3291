/** Numbers and times as people read them. Money comes as integers of micro-USD and is formatted here only. */

const locale = "en";

/** `$0.0042`; small amounts keep four decimals, those below them six. Null is an unknown price, never zero. */
export function money(microUsd: number | null | undefined, unknown: string): string {
  if (microUsd === null || microUsd === undefined) return unknown;
  const dollars = microUsd / 1e6;
  const digits = microUsd === 0 ? 2 : Math.abs(microUsd) < 100 ? 6 : Math.abs(microUsd) < 1e6 ? 4 : 2;
  return new Intl.NumberFormat(locale, { style: "currency", currency: "USD", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(dollars);
}

/** A price per million tokens: `$3.00`, `$0.025`. */
export function price(microUsd: number): string {
  return new Intl.NumberFormat(locale, { style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: 6 }).format(microUsd / 1e6);
}

/** Dollars as typed to micro-USD, exactly; undefined when it is not an amount of at most six decimals. */
export function parseDollars(text: string): number | undefined {
  const match = /^\s*\$?\s*(\d{1,9})(?:\.(\d{1,6}))?\s*$/.exec(text);
  if (!match) return undefined;
  return Number(match[1]) * 1_000_000 + Number((match[2] ?? "").padEnd(6, "0"));
}

/** micro-USD as one types dollars: `0.25`. */
export function dollars(microUsd: number | null | undefined): string {
  if (microUsd === null || microUsd === undefined) return "";
  const whole = Math.floor(microUsd / 1_000_000);
  const rest = String(microUsd % 1_000_000).padStart(6, "0").replace(/0{1,4}$/, "");
  return `${whole}.${rest}`;
}

export const count = (value: number): string => new Intl.NumberFormat(locale).format(value);

const steps: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/** `3 hr. ago`, `in 5 min.`; within a minute `now`; beyond a month the date. */
export function ago(iso: string, now: number = Date.now()): string {
  const seconds = Math.round((Date.parse(iso) - now) / 1000);
  if (Math.abs(seconds) > 30 * 86_400) return date(iso);
  const relative = new Intl.RelativeTimeFormat(locale, { style: "short", numeric: "auto" });
  for (const [unit, size] of steps) {
    if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), unit);
  }
  return "now";
}

export const clock = (iso: string): string => new Date(iso).toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit", hour12: false });

export const date = (iso: string): string => new Date(iso).toLocaleDateString(locale, { day: "numeric", month: "short", year: "numeric" });

export const moment = (iso: string): string => `${date(iso)}, ${clock(iso)}`;

/** What is left until a moment: `29:12`, `23 h 10 min`; `0:00` when it has passed. */
export function left(iso: string, now: number): string {
  const seconds = Math.max(0, Math.floor((Date.parse(iso) - now) / 1000));
  if (seconds >= 3_600) return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** `8k`, `200k`, `1M` tokens. */
export function tokens(value: number): string {
  return new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 }).format(value);
}
