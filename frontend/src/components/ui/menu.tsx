"use client";

import { lazy, type ReactNode } from "react";

import { cn } from "@/lib/cn";
import type { MenuProps } from "./menu-box";
import { useMenuParts } from "./menu-parts";
import { OnDemand } from "./on-demand";

const load = () => import("./menu-box");
const MenuBox = lazy(load);

/** A menu that hangs below its trigger. Its code comes when somebody comes near. */
export function Menu(props: MenuProps) {
  return (
    <OnDemand trigger={props.trigger} popup="menu" load={load}>
      <MenuBox {...props} />
    </OnDemand>
  );
}

export function MenuItem({
  icon,
  aside,
  tone,
  disabled,
  onSelect,
  children,
}: {
  icon?: ReactNode;
  aside?: ReactNode;
  tone?: "bad";
  disabled?: boolean;
  onSelect?: () => void;
  children: ReactNode;
}) {
  const { Item } = useMenuParts();
  return (
    <Item className={cn("pop-item", tone)} disabled={disabled} onSelect={onSelect}>
      {icon}
      <span className="grow">{children}</span>
      {aside}
    </Item>
  );
}

export function MenuRadio<T extends string>({
  value,
  onChange,
  options,
}: {
  value: T;
  onChange: (value: T) => void;
  options: { value: T; label: string; icon?: ReactNode }[];
}) {
  const { ItemIndicator, RadioGroup, RadioItem } = useMenuParts();
  return (
    <RadioGroup value={value} onValueChange={(next) => onChange(next as T)}>
      {options.map((option) => (
        <RadioItem key={option.value} value={option.value} className="pop-item">
          {option.icon}
          <span className="grow">{option.label}</span>
          <ItemIndicator>✓</ItemIndicator>
        </RadioItem>
      ))}
    </RadioGroup>
  );
}

export function MenuSeparator() {
  const { Separator } = useMenuParts();
  return <Separator className="hr my-1" />;
}

export function MenuLabel({ children }: { children: ReactNode }) {
  const { Label } = useMenuParts();
  return <Label className="px-2 pb-1 pt-1.5 text-[12px] leading-4 text-muted">{children}</Label>;
}
