import { createContext, use } from "react";

/** The parts of an open menu, whose code comes with it. */
export type MenuParts = Pick<typeof import("radix-ui/dropdown-menu"), "Item" | "ItemIndicator" | "Label" | "RadioGroup" | "RadioItem" | "Separator">;

export const MenuContext = createContext<MenuParts | null>(null);

export function useMenuParts(): MenuParts {
  const parts = use(MenuContext);
  if (!parts) throw new Error("A menu item stands outside of a menu.");
  return parts;
}
