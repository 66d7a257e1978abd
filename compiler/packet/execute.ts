// Applies datapath actions to the bytes of a packet: what user space does for packets of the slow path, and the
// reference for the actions that are emitted as BPF. A packet is copied at most once, and only if it is changed.

import { RangeViolation, unreachable } from "ebpf-assembler";
import { newFlow } from "../openflow/flow.js";
import { nestedDpActions, type DpAction, type SetTarget } from "../pipeline/dp-action.js";
import { remarkTos, type MeterVerdict } from "../pipeline/meter-table.js";
import { copyLayers, extract, type Layers, newLayers } from "./extract.js";
import { ethernet, ETH_TYPE, VLAN_CFI, vlan } from "./headers.js";
import { SETTERS } from "./set-field.js";
import { read16 } from "./words.js";

/** Receives what the actions send. The bytes are good until the call returns; who needs them longer copies them. */
export interface Sink {
  output(port: number, packet: Uint8Array): void;
  controller(action: Extract<DpAction, { kind: "controller" }>, packet: Uint8Array): void;
  /** Meters a packet of so many bytes; without this every packet passes. */
  meter?(slot: number, bytes: number): MeterVerdict;
}

/** Room for tags pushed in front. */
const HEADROOM = 256;
/** The largest packet: a GSO super-packet of 64 KiB and its tags. */
const MAX_PACKET = 65536 + 64;

const L2_TARGETS: ReadonlySet<SetTarget> = new Set(["eth_dst", "eth_src", "vlan_tci"]);

/** Whether carrying an action out needs to know where L3 is. */
const looksBeyondL2 = (action: DpAction): boolean =>
  (action.kind === "set" && !L2_TARGETS.has(action.target)) ||
  (action.kind === "meter" && action.remarks) ||
  nestedDpActions(action).some((list) => list.some(looksBeyondL2));

const isTagged = (packet: Uint8Array): boolean => {
  const tpid = read16(packet, ethernet.fields.type.byteOffset);
  return tpid === ETH_TYPE.VLAN || tpid === ETH_TYPE.QINQ;
};

/** Executes lists of actions, one packet at a time, in buffers of its own. A sink must not call back into it. */
export class Executor {
  readonly #buffer = new Uint8Array(HEADROOM + MAX_PACKET);
  readonly #layers = newLayers();
  readonly #flow = newFlow();
  /** The packet as it is now: the caller's bytes, or a part of `#buffer` that begins at `#start`. */
  #packet: Uint8Array = this.#buffer;
  #start = 0;
  #own = false;
  /** Bytes at the end that are left out when the packet is sent next. */
  #cutBytes = 0;

  /**
   * Executes `actions` in order on a packet of at least 14 bytes; on a shorter one nothing is done, as OVS drops it.
   *
   * @param packet - not changed
   * @param layers - of this packet, when they are known; not changed
   * @throws {@link RangeViolation} for a packet over 65,600 bytes or more tags pushed than there is room for
   */
  execute(packet: Uint8Array, actions: readonly DpAction[], sink: Sink, layers?: Layers): void {
    if (packet.length < ethernet.minBytes) return;
    this.#packet = packet;
    this.#own = false;
    this.#cutBytes = 0;
    if (layers !== undefined) copyLayers(this.#layers, layers);
    else if (actions.some(looksBeyondL2)) extract(packet, packet.length, 0, this.#flow, this.#layers);
    this.#applyAll(actions, sink);
    this.#packet = this.#buffer;
  }

  /** Returns whether the packet is still there. */
  #apply(action: DpAction, sink: Sink): boolean {
    switch (action.kind) {
      case "output":
        sink.output(action.port, this.#cut());
        return true;
      case "controller":
        sink.controller(action, this.#cut());
        return true;
      case "set":
        SETTERS[action.target](this.#writable(), this.#layers, action.bytes);
        return true;
      case "push_vlan":
        this.#pushVlan(action.tpid, action.tci);
        return true;
      case "pop_vlan":
        this.#popVlan();
        return true;
      case "meter": {
        const verdict = sink.meter?.(action.slot, this.#packet.length) ?? "pass";
        if (typeof verdict === "number") this.#remark(verdict);
        return verdict !== "drop";
      }
      case "trunc":
        this.#cutBytes = Math.max(0, this.#packet.length - action.maxLen);
        return true;
      case "clone":
        this.#onCopy(action.actions, sink);
        return true;
      case "check_pkt_len":
        this.#onCopy(this.#packet.length > action.length ? action.greater : action.lessEqual, sink);
        return true;
      default:
        return unreachable(action);
    }
  }

  /** Raises the drop precedence of an IP packet. */
  #remark(precLevel: number): void {
    const { l3, dlType } = this.#layers;
    if (l3 < 0 || (dlType !== ETH_TYPE.IPV4 && dlType !== ETH_TYPE.IPV6)) return;
    const first = read16(this.#packet, l3);
    const tos = dlType === ETH_TYPE.IPV4 ? first & 0xff : (first >>> 4) & 0xff;
    const remarked = remarkTos(tos, precLevel);
    if (remarked !== tos) SETTERS.nw_tos(this.#writable(), this.#layers, Uint8Array.of(remarked));
  }

  /** Ends where the packet does. */
  #applyAll(actions: readonly DpAction[], sink: Sink): void {
    for (const action of actions) if (!this.#apply(action, sink)) break;
  }

  /** The packet as it is sent. */
  #cut(): Uint8Array {
    const packet = this.#packet;
    if (this.#cutBytes === 0) return packet;
    const cut = packet.subarray(0, Math.max(0, packet.length - this.#cutBytes));
    this.#cutBytes = 0;
    return cut;
  }

  /** Carries out a list, after which the packet is as before. */
  #onCopy(actions: readonly DpAction[], sink: Sink): void {
    const layers = newLayers();
    copyLayers(layers, this.#layers);
    const packet = this.#own ? this.#packet.slice() : this.#packet;
    this.#applyAll(actions, sink);
    copyLayers(this.#layers, layers);
    this.#packet = packet;
    this.#own = false;
    this.#cutBytes = 0;
  }

  /** The packet in our own buffer, with headroom. */
  #writable(): Uint8Array {
    if (this.#own) return this.#packet;
    const packet = this.#packet;
    if (packet.length > MAX_PACKET)
      throw new RangeViolation(`Cannot change a packet of ${packet.length} bytes, want at most ${MAX_PACKET}`);
    this.#buffer.set(packet, HEADROOM);
    this.#start = HEADROOM;
    this.#own = true;
    return (this.#packet = this.#buffer.subarray(HEADROOM, HEADROOM + packet.length));
  }

  /** Moves the start of the packet; the two MACs go with it, the layers stay where they are in the buffer. */
  #moveStart(by: number): void {
    const end = this.#start + this.#packet.length;
    const start = this.#start + by;
    this.#buffer.copyWithin(start, this.#start, this.#start + ethernet.fields.type.byteOffset);
    this.#start = start;
    this.#packet = this.#buffer.subarray(start, end);
    const layers = this.#layers;
    if (layers.l3 >= 0) layers.l3 -= by;
    if (layers.l4 >= 0) layers.l4 -= by;
    layers.end -= by;
  }

  /** The tag's CFI bit is sent as 0, as OVS does: in a flow it only says that there is a tag. */
  #pushVlan(tpid: number, tci: number): void {
    this.#writable();
    if (this.#start < vlan.minBytes)
      throw new RangeViolation(`Cannot push more than ${HEADROOM / vlan.minBytes} VLAN tags onto a packet`);
    this.#moveStart(-vlan.minBytes);
    const at = ethernet.fields.type.byteOffset;
    this.#packet.set([tpid >>> 8, tpid & 0xff, (tci & ~VLAN_CFI) >>> 8, tci & 0xff], at);
  }

  /** Does nothing to a packet that has no tag, or not all of it. */
  #popVlan(): void {
    const packet = this.#packet;
    if (packet.length >= ethernet.minBytes + vlan.minBytes && isTagged(packet)) {
      this.#writable();
      this.#moveStart(vlan.minBytes);
    }
  }
}
