import type { ReactNode } from "react";

/** One sentence, one act. */
export function Empty({ title, children, action }: { title: string; children?: ReactNode; action?: ReactNode }) {
  return (
    <div data-slot="empty" className="empty">
      <h3>{title}</h3>
      {children ? <p className="small muted">{children}</p> : null}
      {action}
    </div>
  );
}
