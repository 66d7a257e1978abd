// One OpenFlow switch as data: ports, tables, groups, MAC table. It holds the state that translation reads and the
// commands that change it; it has no clock (callers pass the time) and does no I/O. `version` rises with every change
// after which a translation may come out otherwise.

import { newFlow } from "../openflow/flow.js";
import type { FragMode } from "../openflow/wire/switch-message.js";
import { PORT, type Action, type Flow, type Group, type Match, type Meter } from "../openflow/types.js";
import { isSameFlow, isSameRule, LearnedCookies, type LearnedFlow } from "./learned-flows.js";
import { groupEntry, GroupModError, type GroupEntry } from "./group-table.js";
import { MacTable } from "./mac-learning.js";
import { MeterTable, type MeterEntry } from "./meter-table.js";
import type { Hop } from "../packet/tunnel.js";
import { TunnelPorts } from "./tunnel/ports.js";
import { Ports, type Port, type PortChange } from "./ports.js";
import { RuleEvents, type RemovalReason, type RuleEvent, type SwitchChange } from "./rule-events.js";
import { visitActions } from "./rule-index.js";
import { FlowModError, RuleJournal, ruleOf, Table, type Rule, type RuleChange, type RuleFilter } from "./table.js";

/** What the network below tunnels is like now. */
export interface Underlay {
  /**
   * How packets to `dst` leave the host; undefined: not at all, or only the host knows yet. When an answer changes, whoever asks
   * must call {@link Switch.underlayChanged}.
   * @param src - the address that they are to come from, zeros for any
   */
  hop(dst: Uint8Array, src: Uint8Array): Hop | undefined;
}

/** What a switch without flows does: act as a learning switch, or drop. */
export type FailMode = "standalone" | "secure";

/** Tables 0 to 253; OVS keeps 254 to itself and 255 means all. */
export const N_TABLES = 254;

/** Cookie of a flow that gives none. */
const NO_COOKIE = 0xffffffffffffffffn;

const CATCH_ALL: Match = { value: newFlow(), mask: newFlow() };

/** What a switch in standalone mode does before it has flows. */
const STANDALONE_FLOW: Flow = {
  table: 0,
  priority: 0,
  cookie: 0n,
  idleTimeout: 0,
  hardTimeout: 0,
  importance: 0,
  flags: [],
  match: CATCH_ALL,
  actions: [{ kind: "output", port: PORT.NORMAL, maxLen: 0 }],
};

export interface SwitchOptions {
  readonly name?: string;
  readonly failMode?: FailMode;
  /** Whether NORMAL forwards frames to reserved multicast addresses (other-config:forward-bpdu). */
  readonly forwardBpdu?: boolean;
  readonly macs?: { readonly agingS?: number; readonly size?: number };
}

export class Switch {
  readonly name: string;
  readonly failMode: FailMode;
  readonly forwardBpdu: boolean;
  readonly macs: MacTable;
  readonly tunnels = new TunnelPorts();
  /** What is below tunnels; without it, the host alone knows the ways. */
  underlay: Underlay | undefined;
  readonly #meters = new MeterTable();
  readonly #tables: (Table | undefined)[] = [];
  readonly #groups = new Map<number, GroupEntry>();
  readonly #ports: Ports;
  readonly #expirable = new Set<Rule>();
  readonly #journal = new RuleJournal();
  readonly #learnedCookies = new LearnedCookies();
  readonly #standalone = ruleOf(STANDALONE_FLOW, 0, true);
  /** What drops fragments that are to be dropped. */
  readonly dropRule = ruleOf({ ...STANDALONE_FLOW, actions: [] }, 0, true);
  readonly #events = new RuleEvents();
  #changes = 0;
  #rules = 0;
  #hasController = false;
  #missesToController = false;
  #fragMode: Exclude<FragMode, "reassemble"> = "normal";

  constructor(options: SwitchOptions = {}) {
    this.name = options.name ?? "br0";
    this.failMode = options.failMode ?? "secure";
    this.forwardBpdu = options.forwardBpdu ?? false;
    this.macs = new MacTable(options.macs);
    this.#ports = new Ports(this.name);
  }

  /** Rises with every change that can alter a translation: rules, groups, ports, learned addresses. */
  get version(): number {
    return this.#changes + this.macs.version;
  }

  /** Packets for tunnels may go another way from now on. */
  underlayChanged(): void {
    this.#changes++;
  }

  /** The same without learned addresses. */
  get tablesVersion(): number {
    return this.#changes;
  }

  /** Number of rules in all tables. */
  get size(): number {
    return this.#rules;
  }

  // Ports

  /** Adds a port, or changes the one with its number. */
  setPort(change: PortChange): Port {
    const port = this.#ports.set(change);
    if (port.tunnel !== undefined) this.tunnels.set(port.number, port.tunnel);
    this.#changed("ports");
    return port;
  }

  /** Takes a port out, and forgets the addresses learned on it. */
  removePort(number: number): void {
    if (!this.#ports.delete(number)) return;
    this.tunnels.delete(number);
    this.macs.flush(number);
    this.#changed("ports");
  }

  port(number: number): Port | undefined {
    return this.#ports.get(number);
  }

  /** Ports by ascending number. */
  get ports(): readonly Port[] {
    return this.#ports.list;
  }

  // Rules

  /** Has `onRule` told about what happens to rules, when it has happened for good. */
  observe(onRule: ((event: RuleEvent) => void) | undefined): void {
    this.#events.listen(onRule);
  }

  /**
   * Has `onChange` told about every change that can alter a translation, learned addresses aside: of a rule, when it has
   * happened for good, those of a transaction in a row; or of what is named.
   */
  follow(onChange: ((change: SwitchChange) => void) | undefined): void {
    this.#events.follow(onChange);
  }

  #changed(what: Exclude<SwitchChange, RuleEvent>): void {
    this.#changes++;
    this.#events.changed(what);
  }

  /** @throws {@link FlowModError} for a table that cannot be */
  checkTable(id: number): void {
    if (!Number.isInteger(id) || id < 0 || id >= N_TABLES) {
      throw new FlowModError("bad_table_id", `Cannot use table ${id}: want 0 to ${N_TABLES - 1}`);
    }
  }

  /** Table `id`, made when first asked for. */
  table(id: number): Table {
    this.checkTable(id);
    return (this.#tables[id] ??= new Table(id, this.#journal));
  }

  /** The tables that exist, by number. */
  *tables(): Generator<Table> {
    for (const table of this.#tables) if (table !== undefined) yield table;
  }

  /** All rules of the user, table by table. */
  *rules(): Generator<Rule> {
    for (const table of this.tables()) yield* table.rules;
  }

  /** Rules that use group `id`. */
  rulesWithGroup(id: number): Rule[] {
    return [...this.tables()].flatMap(({ index }) => [...index.withGroup(id)]);
  }

  /** Rules that use meter `id`. */
  rulesWithMeter(id: number): Rule[] {
    return [...this.tables()].flatMap(({ index }) => [...index.withMeter(id)]);
  }

  /** Table `id` as translation sees it: nothing when it holds no rule. */
  tableIfAny(id: number): Table | undefined {
    return this.#tables[id];
  }

  /** The rule that handles every packet while there are no flows and no controller to make some, in standalone mode. */
  get standaloneRule(): Rule | undefined {
    return this.#rules === 0 && this.failMode === "standalone" && !this.#hasController ? this.#standalone : undefined;
  }

  /**
   * Adds one flow, in place of an identical one.
   *
   * @throws {@link FlowModError} for an overlap it asked to be checked for, a table that is not, an unknown group
   */
  add(flow: Flow, nowMs: number): Rule {
    this.#checkMatch(flow.match);
    this.checkActions(flow.actions);
    const { rule, replaced } = this.table(flow.table).add(flow, nowMs);
    if (replaced === undefined) this.#rules++;
    else this.#expirable.delete(replaced);
    this.#track(rule);
    this.#changes++;
    this.#events.tell({ kind: "added", rule, ...(replaced === undefined ? {} : { old: replaced }) });
    this.#replaceLearning(replaced === undefined ? [] : [replaced], flow.actions);
    return rule;
  }

  /**
   * Gives the rules that `flow.match` covers (strict: the one that equals it in match and priority) other actions. When
   * there is none, the flow is added, if `addIfMissing`, as OpenFlow 1.0 has it.
   */
  modify(
    flow: Flow,
    nowMs: number,
    options: {
      readonly strict?: boolean;
      readonly addIfMissing?: boolean;
      readonly newCookie?: boolean;
    } & RuleFilter = {},
  ): Rule[] {
    this.#checkMatch(flow.match);
    this.checkActions(flow.actions);
    const table = this.table(flow.table);
    const old = table.collect(flow.match, flow.priority, options.strict ?? false, options);
    if (old.length === 0) return options.addIfMissing === true ? [this.add(flow, nowMs)] : [];
    this.#changes++;
    const changed = old.map((rule) => {
      this.#expirable.delete(rule);
      const successor = table.modify(rule, flow, nowMs, options.newCookie ?? false);
      this.#track(successor);
      this.#events.tell({ kind: "modified", rule: successor, old: rule });
      return successor;
    });
    for (const rule of old) this.#replaceLearning([rule], flow.actions);
    return changed;
  }

  /**
   * Whether a flow can be learned: its rule is there already, or its limit is not reached.
   *
   * @param pending - flows that will have been learned by then
   * @throws {@link FlowModError} for a table that is not
   */
  mayLearn({ flow, limit }: LearnedFlow, pending: readonly LearnedFlow[] = []): boolean {
    const table = this.table(flow.table);
    const old = table.rules.find(flow.match, flow.priority);
    if (limit === 0 || (old !== undefined && isSameRule(old, flow))) return true;
    const others = pending
      .map((learned) => learned.flow)
      .filter((other) => other.table === flow.table && other.cookie === flow.cookie);
    if (others.some((other) => isSameFlow(other, flow))) return true;
    const fresh = others.filter(({ match, priority }) => table.rules.find(match, priority) === undefined);
    return fresh.length + table.countCookie(flow.cookie) < limit;
  }

  /**
   * Adds a flow that a learn action made; one that is there already begins to live anew.
   *
   * @returns whether the limit allowed it
   * @throws {@link FlowModError} for a table that is not
   */
  learn(learned: LearnedFlow, nowMs: number): boolean {
    const { flow } = learned;
    const old = this.table(flow.table).rules.find(flow.match, flow.priority);
    if (old !== undefined && isSameRule(old, flow)) {
      old.modifiedMs = nowMs;
      return true;
    }
    if (!this.mayLearn(learned)) return false;
    this.modify(flow, nowMs, { strict: true, addIfMissing: true, newCookie: flow.cookie !== NO_COOKIE });
    return true;
  }

  /** Shortens what is left of a rule's life, in seconds; 0 = as it is. */
  reduceTimeouts(rule: Rule, idleTimeout: number, hardTimeout: number): void {
    if (rule.removed || rule.hidden) return;
    const shorter = (now: number, most: number): number => (most !== 0 && (now === 0 || now > most) ? most : now);
    rule.idleTimeout = shorter(rule.idleTimeout, idleTimeout);
    rule.hardTimeout = shorter(rule.hardTimeout, hardTimeout);
    this.#track(rule);
  }

  /** Deletes the rules that `match` covers (strict: the one that equals it), in one table or in all. */
  delete(
    match: Match,
    options: { readonly table?: number; readonly priority?: number; readonly strict?: boolean } & RuleFilter = {},
  ): Rule[] {
    this.#checkMatch(match);
    const tables = options.table === undefined ? [...this.tables()] : [this.table(options.table)];
    const rules = tables.flatMap((table) =>
      table.collect(match, options.priority ?? 0, options.strict ?? false, options),
    );
    for (const rule of rules) this.#remove(rule, "delete");
    return rules;
  }

  /**
   * Takes out the rules whose time is over. Idle time counts from the last credited packet: credit first.
   *
   * @returns the rules, with the reason of each
   */
  expire(nowMs: number): { readonly rule: Rule; readonly reason: RemovalReason }[] {
    const expired: { rule: Rule; reason: RemovalReason }[] = [];
    for (const rule of this.#expirable) {
      if (rule.hardTimeout > 0 && nowMs > rule.modifiedMs + rule.hardTimeout * 1000) {
        expired.push({ rule, reason: "hard_timeout" });
      } else if (rule.idleTimeout > 0 && nowMs > rule.usedMs + rule.idleTimeout * 1000) {
        expired.push({ rule, reason: "idle_timeout" });
      }
    }
    for (const { rule, reason } of expired) this.#remove(rule, reason);
    this.macs.expire(nowMs);
    return expired;
  }

  // Groups

  group(id: number): GroupEntry | undefined {
    return this.#groups.get(id);
  }

  groups(): Iterable<GroupEntry> {
    return this.#groups.values();
  }

  /** @throws {@link GroupModError} `group_exists` */
  addGroup(group: Group, nowMs: number): GroupEntry {
    if (this.#groups.has(group.id)) {
      throw new GroupModError("group_exists", `Cannot add group ${group.id}: it exists already`);
    }
    return this.#putGroup(groupEntry(group, nowMs));
  }

  /**
   * Puts `group` in the place of the one with its number. Counters start anew, but for buckets that are taken over.
   *
   * @throws {@link GroupModError} `unknown_group`
   */
  modifyGroup(group: Group, nowMs: number): GroupEntry {
    const old = this.#groups.get(group.id);
    if (old === undefined) {
      throw new GroupModError("unknown_group", `Cannot modify group ${group.id}: there is no such group`);
    }
    old.removed = true;
    return this.#putGroup(groupEntry(group, nowMs, old));
  }

  /** Deletes a group, and as OVS does the rules that use it. Returns those. */
  deleteGroup(id: number): Rule[] {
    const old = this.#groups.get(id);
    if (old === undefined) return [];
    old.removed = true;
    this.#groups.delete(id);
    this.#changed("groups");
    const rules = this.rulesWithGroup(id);
    for (const rule of rules) this.#remove(rule, "group_delete");
    return rules;
  }

  #putGroup(entry: GroupEntry): GroupEntry {
    this.#groups.set(entry.group.id, entry);
    this.#changed("groups");
    return entry;
  }

  // Transactions

  /**
   * Carries out changes of rules and groups of which all happen or, when `run` throws, none. Nothing is translated
   * meanwhile, so that no packet sees half of them.
   */
  transaction<T>(run: () => T): T {
    if (this.#journal.isOpen) return run();
    const groups = new Map(this.#groups);
    this.#journal.open();
    this.#events.hold();
    try {
      const result = run();
      this.#journal.close();
      this.#events.release();
      return result;
    } catch (error) {
      this.#events.forget();
      this.#rollBack(this.#journal.close(), groups);
      throw error;
    }
  }

  #rollBack(changes: readonly RuleChange[], groups: ReadonlyMap<number, GroupEntry>): void {
    for (const change of [...changes].reverse()) {
      const { kind, rule } = change;
      this.table(rule.table).undo(change);
      if (kind === "insert") {
        this.#expirable.delete(rule);
        this.#learnedCookies.remove(rule.actions);
        this.#rules--;
      } else {
        this.#track(rule);
        this.#learnedCookies.add(rule.actions);
        this.#rules++;
      }
    }
    for (const entry of this.#groups.values()) entry.removed = true;
    this.#groups.clear();
    for (const [id, entry] of groups) {
      entry.removed = false;
      this.#groups.set(id, entry);
    }
    this.#changed("groups");
  }

  // Meters

  /** The meters: to look at, to bind to memory and to meter packets with; to change by the methods of the switch. */
  get meters(): Omit<MeterTable, "add" | "modify" | "delete"> {
    return this.#meters;
  }

  /** @throws {@link MeterModError} `meter_exists`, `out_of_meters` */
  addMeter(meter: Meter, nowMs: number): MeterEntry {
    const entry = this.#meters.add(meter, nowMs);
    this.#changed("meters");
    return entry;
  }

  /** @throws {@link MeterModError} `unknown_meter` */
  modifyMeter(meter: Meter, nowMs: number): MeterEntry {
    const entry = this.#meters.modify(meter, nowMs);
    this.#changed("meters");
    return entry;
  }

  /** Deletes a meter, and as OVS does the rules that use it. Returns those. */
  deleteMeter(id: number): Rule[] {
    if (!this.#meters.delete(id)) return [];
    this.#changed("meters");
    const rules = this.rulesWithMeter(id);
    for (const rule of rules) this.#remove(rule, "meter_delete");
    return rules;
  }

  // Controllers

  /** Whether some controller is connected: what buckets that watch the port CONTROLLER live by. */
  get hasController(): boolean {
    return this.#hasController;
  }

  /** Whether a controller gets the packets that no flow matches. */
  get missesToController(): boolean {
    return this.#missesToController;
  }

  setMissesToController(wanted: boolean): void {
    if (wanted === this.#missesToController) return;
    this.#missesToController = wanted;
    this.#changed("controllers");
  }

  /** What becomes of IP fragments. */
  get fragMode(): Exclude<FragMode, "reassemble"> {
    return this.#fragMode;
  }

  setFragMode(mode: Exclude<FragMode, "reassemble">): void {
    if (mode === this.#fragMode) return;
    this.#fragMode = mode;
    this.#changed("fragments");
  }

  setController(connected: boolean): void {
    if (connected === this.#hasController) return;
    this.#hasController = connected;
    this.#changed("controllers");
  }

  /** Tunnel options mean nothing to a switch without a table that maps them, and there is no such table. */
  #checkMatch({ tunMetadata }: Match): void {
    for (const field of tunMetadata?.keys() ?? []) {
      throw new FlowModError("invalid_tlv_field", `Cannot match ${field}: no option of tunnels is mapped to it`);
    }
  }

  /** A rule may use groups and meters that are there; a bucket may use any group, as in OVS. @throws {@link FlowModError} */
  checkActions(actions: readonly Action[]): void {
    visitActions(actions, (action) => {
      if (action.kind === "group" && !this.#groups.has(action.group)) {
        throw new FlowModError("bad_out_group", `Cannot use group ${action.group}: there is no such group`);
      }
      if (action.kind === "meter" && this.#meters.get(action.meter) === undefined) {
        throw new FlowModError("invalid_meter", `Cannot use meter ${action.meter}: there is no such meter`);
      }
    });
  }

  #track(rule: Rule): void {
    if (rule.idleTimeout > 0 || rule.hardTimeout > 0) this.#expirable.add(rule);
  }

  #remove(rule: Rule, reason: RemovalReason): void {
    if (rule.removed) return;
    this.table(rule.table).remove(rule);
    this.#expirable.delete(rule);
    this.#rules--;
    this.#changes++;
    this.#events.tell({ kind: "removed", rule, reason });
    this.#replaceLearning([rule], []);
  }

  /** Notes that rules with these actions have come and gone; what only those gone had learned goes with them. */
  #replaceLearning(gone: readonly Rule[], come: readonly Action[]): void {
    this.#learnedCookies.add(come);
    for (const { table, cookie } of gone.flatMap((rule) => this.#learnedCookies.remove(rule.actions))) {
      this.delete(CATCH_ALL, { table, cookie: { value: cookie, mask: NO_COOKIE } });
    }
  }
}
