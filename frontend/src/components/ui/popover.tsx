"use client";

import { lazy } from "react";

import { OnDemand } from "./on-demand";
import type { PopoverProps } from "./popover-box";

const load = () => import("./popover-box");
const PopoverBox = lazy(load);

/** What opens beside its trigger. Its code comes when somebody comes near. */
export function Popover(props: PopoverProps) {
  return (
    <OnDemand trigger={props.trigger} popup="dialog" load={load}>
      <PopoverBox {...props} />
    </OnDemand>
  );
}
