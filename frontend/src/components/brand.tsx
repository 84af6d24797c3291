/** The mark: a tick on a ruled line. */
export function Mark({ size = 20 }: { size?: number }) {
  return (
    <svg className="mark" width={size} height={size} viewBox="0 0 20 20" fill="none" stroke="currentColor" aria-hidden="true">
      <path d="M3 9.2 8.2 15 17 4" strokeWidth="2.4" />
      <path d="M3 18h14" strokeWidth="1.4" />
    </svg>
  );
}
