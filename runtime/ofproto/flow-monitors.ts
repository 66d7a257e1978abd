// Flow monitors of one connection: which flows its peer watches, and what is reported of them. Reports gather until the change
// that causes them is done, and then go together. A peer that does not read them is told that there will be none for a while;
// once it reads again it hears what has changed since.

import { isDeepStrictEqual } from "node:util";
import {
  ANY_GROUP,
  encodeFlowUpdate,
  flowUpdateName,
  isCollected,
  MONITOR_FLAG,
  monitorPauseName,
  MultipartWriter,
  OpenFlowError,
  PORT,
  type RemovalReason,
  type Rule,
  type RuleEvent,
  type RuleFilter,
  type WireFlowChange,
  type WireFlowMonitor,
} from "#compiler";
import type { OfConn } from "./ofconn.js";

/** Whose message it is that changes something. */
export interface Source {
  readonly conn: OfConn;
  readonly xid: number;
}

const ALL_TABLES = 0xff;

/** Reasons by number (ofp_flow_removed_reason). */
const REASONS: readonly RemovalReason[] = ["idle_timeout", "hard_timeout", "delete", "group_delete", "meter_delete"];

const EVENTS = {
  added: { event: "added", flag: MONITOR_FLAG.add },
  modified: { event: "modified", flag: MONITOR_FLAG.modify },
  removed: { event: "removed", flag: MONITOR_FLAG.delete },
} as const;

/** What a monitor demands of flows, besides a match. */
export const filterOfMonitor = ({ outPort, outGroup }: WireFlowMonitor): RuleFilter => ({
  ...(outPort === PORT.NONE ? {} : { outPort }),
  ...(outGroup === ANY_GROUP ? {} : { outGroup }),
});

const watches = (monitor: WireFlowMonitor, rule: Rule): boolean =>
  (monitor.table === ALL_TABLES || monitor.table === rule.table) &&
  isCollected(rule, monitor.match, filterOfMonitor(monitor));

/** A report on a flow. */
export const describeChange = (
  rule: Rule,
  event: WireFlowChange["event"],
  hasActions: boolean,
  reason = 0,
): WireFlowChange => {
  const { table, priority, idleTimeout, hardTimeout, cookie, match } = rule;
  const head = { event, reason, table, priority, idleTimeout, hardTimeout, cookie, match };
  return { ...head, actions: hasActions ? rule.actions : [] };
};

/** Whether OVS takes a change for one: a flow that is modified may stay as it was. */
const isChange = (event: RuleEvent): boolean =>
  event.kind !== "modified" ||
  event.rule.cookie !== event.old.cookie ||
  !isDeepStrictEqual(event.rule.actions, event.old.actions);

export class FlowMonitors {
  private readonly monitors = new Map<number, WireFlowMonitor>();
  private updates: MultipartWriter | undefined;
  private isAbbreviated = false;
  /** What has changed since the peer stopped reading; absent while it reads. */
  private missed: Map<Rule, "added" | "modified"> | undefined;
  /** Nothing is sent while somebody else does who must be first. */
  private isHeld = false;

  constructor(private readonly conn: OfConn) {}

  /** @throws {@link OpenFlowError} if there is one with this number */
  add(monitor: WireFlowMonitor): void {
    if (this.monitors.has(monitor.id))
      throw new OpenFlowError("OFPMOFC_MONITOR_EXISTS", `Cannot add monitor ${monitor.id}: it exists`);
    this.monitors.set(monitor.id, monitor);
  }

  /** @throws {@link OpenFlowError} if there is none with this number */
  remove(id: number): void {
    if (!this.monitors.delete(id))
      throw new OpenFlowError("OFPMOFC_UNKNOWN_MONITOR", `Cannot end monitor ${id}: there is none`);
  }

  /** Flags of all monitors that watch for such a change of a flow. */
  private flagsFor(flag: number, rule: Rule, old?: Rule): number {
    let flags = 0;
    for (const monitor of this.monitors.values())
      if ((monitor.flags & flag) !== 0 && (watches(monitor, rule) || (old !== undefined && watches(monitor, old))))
        flags |= monitor.flags;
    return flags;
  }

  /** Takes note of what happened to a flow; {@link flush} sends it. */
  report(happened: RuleEvent, source: Source | undefined): void {
    if (this.monitors.size === 0 || !isChange(happened)) return;
    const { rule, kind } = happened;
    const { event, flag } = EVENTS[kind];
    const old = kind === "removed" ? undefined : happened.old;
    if (this.missed !== undefined && !this.noteMissed(happened, this.missed)) return;
    const flags = this.flagsFor(flag, rule, old);
    if (flags === 0) return;
    const { minor } = this.conn;
    this.updates ??= this.conn.multipart(flowUpdateName(minor), 0);
    const isOwn = source?.conn === this.conn && (flags & MONITOR_FLAG.own) === 0 && this.missed === undefined;
    if (!isOwn) {
      const reason = kind === "removed" ? REASONS.indexOf(happened.reason) : 0;
      const change = describeChange(rule, event, (flags & MONITOR_FLAG.actions) !== 0, reason);
      this.updates.add(encodeFlowUpdate(change, minor));
    } else if (!this.isAbbreviated) {
      this.isAbbreviated = true;
      this.updates.add(encodeFlowUpdate({ event: "abbrev", xid: source.xid }, minor));
    }
  }

  /** Remembers a change until the peer reads again. Returns whether it must hear of it at once all the same. */
  private noteMissed(happened: RuleEvent, missed: Map<Rule, "added" | "modified">): boolean {
    const { rule, kind } = happened;
    const before = kind === "removed" ? rule : happened.old;
    const known = before === undefined ? undefined : missed.get(before);
    if (before !== undefined) missed.delete(before);
    // Flows that came and went in the meantime have never been, for the peer.
    if (kind === "removed") return known !== "added";
    missed.set(rule, kind === "added" ? "added" : (known ?? "modified"));
    return false;
  }

  flush(): void {
    if (this.isHeld) return;
    this.updates?.end();
    this.updates = undefined;
    this.isAbbreviated = false;
    const { isCongested } = this.conn.connection;
    if (this.missed === undefined && isCongested && this.monitors.size > 0) {
      this.missed = new Map();
      this.sayPause("paused");
    } else if (this.missed !== undefined && !isCongested) this.resume(this.missed);
  }

  /** Runs something that sends; reports wait until it is done. */
  async hold(run: () => Promise<void>): Promise<void> {
    this.isHeld = true;
    try {
      await run();
    } finally {
      this.isHeld = false;
      this.flush();
    }
  }

  private resume(missed: ReadonlyMap<Rule, "added" | "modified">): void {
    this.missed = undefined;
    const { minor } = this.conn;
    const updates = this.conn.multipart(flowUpdateName(minor), 0);
    let count = 0;
    for (const [rule, event] of missed) {
      const wanted = event === "added" ? MONITOR_FLAG.add | MONITOR_FLAG.modify : MONITOR_FLAG.modify;
      const flags = this.flagsFor(wanted, rule);
      if (flags === 0) continue;
      count++;
      updates.add(encodeFlowUpdate(describeChange(rule, event, (flags & MONITOR_FLAG.actions) !== 0), minor));
    }
    if (count > 0) updates.end();
    this.sayPause("resumed");
  }

  private sayPause(event: "paused" | "resumed"): void {
    const { conn } = this;
    const name = monitorPauseName(event, conn.minor);
    if (name !== undefined) conn.reply(name, 0);
    else conn.reply(flowUpdateName(conn.minor), 0, (writer) => writer.put(encodeFlowUpdate({ event }, conn.minor)));
  }
}
