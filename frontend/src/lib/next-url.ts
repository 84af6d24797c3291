/** Where sign-in leads back to: a path of this product, never another site. */
export function safeNext(next: string | null | undefined, fallback: string): string {
  if (!next || !next.startsWith("/") || next.startsWith("//") || next.includes("\\")) return fallback;
  return next;
}

export const isEmail = (text: string): boolean => /^[^@\s]+@[^@\s]+$/.test(text.trim());
