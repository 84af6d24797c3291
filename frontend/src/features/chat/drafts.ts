/** What was typed and not sent, per thread, for as long as the tab lives. */
const key = (threadId: string): string => `vibe.draft.${threadId}`;

export function readDraft(threadId: string): string {
  try {
    return sessionStorage.getItem(key(threadId)) ?? "";
  } catch {
    return "";
  }
}

export function writeDraft(threadId: string, text: string): void {
  try {
    if (text) sessionStorage.setItem(key(threadId), text);
    else sessionStorage.removeItem(key(threadId));
  } catch {
    // Storage is full or forbidden: the text stays in the field.
  }
}
