import type { Run } from "@/api/types";
import { strings } from "@/lib/strings";
import { StateMark, type Tone } from "./ui/badge";
import { IconApprovals, IconClose, IconDone, IconQueued, IconRunning, IconStop } from "./ui/icon";

const looks: Record<Run["status"], { tone: Tone; icon: typeof IconDone }> = {
  queued: { tone: "plain", icon: IconQueued },
  running: { tone: "live", icon: IconRunning },
  waiting_approval: { tone: "warn", icon: IconApprovals },
  completed: { tone: "plain", icon: IconDone },
  failed: { tone: "bad", icon: IconClose },
  stopped: { tone: "plain", icon: IconStop },
  timed_out: { tone: "bad", icon: IconQueued },
};

/** How a run stands: the mark says it, the colour only repeats it. */
export function RunStatus({ status }: { status: Run["status"] }) {
  const { tone, icon: Icon } = looks[status];
  return (
    <StateMark tone={tone} icon={<Icon className="ic-s" aria-hidden="true" />}>
      {strings.threads.status[status]}
    </StateMark>
  );
}
