/** Where a new thread with an agent opens, with its first message filled in. */
export function newChatUrl(agentId?: string, prompt?: string): string {
  const query = new URLSearchParams();
  if (agentId) query.set("agent", agentId);
  if (prompt) query.set("prompt", prompt);
  const tail = query.toString();
  return tail ? `/threads/new?${tail}` : "/threads/new";
}
