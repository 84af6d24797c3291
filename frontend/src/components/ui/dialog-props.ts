import type { ReactNode } from "react";

export interface DialogProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  description?: ReactNode;
  children?: ReactNode;
  /** The verbs, below the perforation. */
  footer?: ReactNode;
  size?: "m" | "l" | "xl";
}
