"use client";

import { Crash } from "@/components/crash";

export default Crash;
