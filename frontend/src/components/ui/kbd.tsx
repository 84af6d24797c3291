export function Kbd({ children }: { children: string }) {
  return (
    <kbd data-slot="kbd" className="kbd" aria-hidden="true">
      {children}
    </kbd>
  );
}
