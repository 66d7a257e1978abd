// Applies datapath actions to the bytes of a packet: what user space does for packets of the slow path, and the
// reference for the actions that are emitted as BPF. A packet is copied at most once, and only if it is changed.

import { RangeViolation, unreachable } from "ebpf-assembler";
import { etherPacketType, PACKET_TYPE } from "../openflow/action.js";
import { newFlow } from "../openflow/flow.js";
import { nestedDpActions, type DpAction, type SetTarget } from "../pipeline/dp-action.js";
import { remarkTos, type MeterVerdict } from "../pipeline/meter-table.js";
import type { Frozen } from "../pipeline/frozen.js";
import { copyLayers, extract, type Layers, newLayers } from "./extract.js";
import { ethernet, ETH_TYPE, isMplsType, mpls, NSH_INSIDE, nsh, VLAN_CFI, vlan } from "./headers.js";
import { setNsh } from "./set-nsh.js";
import { isShimTarget, SETTERS, type ShimTarget } from "./set-field.js";
import { read16, write16, write32 } from "./words.js";

/** Receives what the actions send. The bytes are good until the call returns; who needs them longer copies them. */
export interface Sink {
  output(port: number, packet: Uint8Array): void;
  controller(action: Extract<DpAction, { kind: "controller" }>, packet: Uint8Array): void;
  /** Sends the packet through a tunnel: encapsulate() makes what leaves of it. Without this it goes nowhere. */
  tunnel?(action: Extract<DpAction, { kind: "tnl_push" }>, packet: Uint8Array): void;
  /** Meters a packet of so many bytes; without this every packet passes. */
  meter?(slot: number, bytes: number): MeterVerdict;
}

/** A packet that is to be parsed again, and what is to be done with it then. */
export interface Recirculated {
  readonly frozen: Frozen;
  readonly packet: Uint8Array;
  /** What it begins with (PACKET_TYPE). */
  readonly packetType: number;
}

const NOTHING: readonly Recirculated[] = [];

/** Room for tags pushed in front. */
const HEADROOM = 256;
/** The largest packet: a GSO super-packet of 64 KiB and its tags. */
const MAX_PACKET = 65536 + 64;

const L2_TARGETS: ReadonlySet<SetTarget> = new Set(["eth_dst", "eth_src", "vlan_tci", "skb_priority"]);

/** Actions, beside sets, that come in behind or instead of the Ethernet header. */
const BEYOND_L2: ReadonlySet<DpAction["kind"]> = new Set<DpAction["kind"]>([
  ...(["push_mpls", "pop_mpls", "add_mpls", "push_eth", "pop_eth", "push_nsh", "pop_nsh"] as const),
]);

/** Whether carrying an action out needs to know where L3 is. */
const looksBeyondL2 = (action: DpAction): boolean =>
  (action.kind === "set" && !L2_TARGETS.has(action.target)) ||
  BEYOND_L2.has(action.kind) ||
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
  /** What the packet begins with (PACKET_TYPE). */
  #type: number = PACKET_TYPE.ETHERNET;
  /** Where the MPLS label stack begins; -1 when there is none. L3 is behind all labels then. */
  #labels = -1;
  #recirculated: Recirculated[] = [];

  /**
   * Executes `actions` in order on a packet of at least 14 bytes; on a shorter one nothing is done, as OVS drops it.
   *
   * @param packet - not changed
   * @param layers - of this packet, when they are known; not changed
   * @param packetType - what it begins with
   * @returns copies that are to be parsed and translated anew, in the order in which that was asked for
   * @throws {@link RangeViolation} for a packet over 65,600 bytes or more tags pushed than there is room for
   */
  execute(
    packet: Uint8Array,
    actions: readonly DpAction[],
    sink: Sink,
    layers?: Layers,
    packetType: number = PACKET_TYPE.ETHERNET,
  ): readonly Recirculated[] {
    if (packet.length < ethernet.minBytes) return NOTHING;
    this.#type = packetType;
    this.#packet = packet;
    this.#own = false;
    this.#cutBytes = 0;
    this.#labels = -1;
    if (layers !== undefined || actions.some(looksBeyondL2)) this.#findLayers(packet, layers);
    this.#applyAll(actions, sink);
    this.#packet = this.#buffer;
    const recirculated = this.#recirculated;
    if (recirculated.length === 0) return NOTHING;
    this.#recirculated = [];
    return recirculated;
  }

  #findLayers(packet: Uint8Array, layers: Layers | undefined): void {
    if (layers !== undefined) copyLayers(this.#layers, layers);
    else extract(packet, packet.length, 0, this.#flow, this.#layers, this.#type);
    if (isMplsType(this.#layers.dlType)) this.#findLabels();
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
      case "tnl_push":
        sink.tunnel?.(action, this.#cut());
        return true;
      case "set":
        // No byte of the packet, and no port has queues.
        if (action.target === "skb_priority") return true;
        if (isShimTarget(action.target)) this.#setShim(action.target, action.bytes);
        else SETTERS[action.target](this.#writable(), this.#layers, action.bytes);
        return true;
      case "push_vlan":
        this.#pushVlan(action.tpid, action.tci);
        return true;
      case "pop_vlan":
        this.#popVlan();
        return true;
      case "push_mpls":
        this.#pushMpls(action.ethertype, action.lse);
        return true;
      case "pop_mpls":
        this.#popMpls(action.ethertype);
        return true;
      case "add_mpls":
        this.#addMpls(action.ethertype, action.lse);
        return true;
      case "push_eth":
        this.#pushEthernet(action.dst, action.src);
        return true;
      case "pop_eth":
        this.#popEthernet();
        return true;
      case "push_nsh":
        this.#pushFront(action.header, PACKET_TYPE.NSH);
        return true;
      case "pop_nsh":
        return this.#popNsh();
      case "recirc":
        this.#recirculated.push({ frozen: action.frozen, packet: this.#packet.slice(), packetType: this.#type });
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
    const [labels, type] = [this.#labels, this.#type];
    const packet = this.#own ? this.#packet.slice() : this.#packet;
    this.#applyAll(actions, sink);
    copyLayers(this.#layers, layers);
    this.#labels = labels;
    this.#type = type;
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

  /**
   * Moves the start of the packet; its first `head` bytes go with it, by default the two MACs, the layers behind them stay
   * where they are in the buffer.
   */
  #moveStart(by: number, head: number = ethernet.fields.type.byteOffset): void {
    const end = this.#start + this.#packet.length;
    const start = this.#start + by;
    this.#buffer.copyWithin(start, this.#start, this.#start + head);
    this.#start = start;
    this.#packet = this.#buffer.subarray(start, end);
    const layers = this.#layers;
    if (layers.l3 >= 0) layers.l3 -= by;
    if (layers.l4 >= 0) layers.l4 -= by;
    if (this.#labels >= head) this.#labels -= by;
    layers.end -= by;
  }

  /** Makes room for `bytes` in front. @throws {@link RangeViolation} when there is none left */
  #needHeadroom(bytes: number): void {
    this.#writable();
    if (this.#start < bytes)
      throw new RangeViolation(`Cannot push ${bytes} bytes in front of a packet: want at most ${HEADROOM} in all`);
  }

  /** The tag's CFI bit is sent as 0, as OVS does: in a flow it only says that there is a tag. */
  /** What is left of a packet without its Ethernet header may be too short for a tag. */
  #pushVlan(tpid: number, tci: number): void {
    if (this.#packet.length < ethernet.minBytes) return;
    this.#needHeadroom(vlan.minBytes);
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

  /** In a packet that came with labels, L3 is behind the one that says it is the last. */
  #findLabels(): void {
    const packet = this.#packet;
    const layers = this.#layers;
    this.#labels = layers.l3;
    let at = layers.l3;
    while (packet.length - at >= mpls.minBytes) {
      at += mpls.minBytes;
      if ((packet[at - mpls.minBytes + mpls.fields.bos.byteOffset]! & 1) !== 0) break;
    }
    layers.l3 = at;
  }

  /** The Ethernet type: the last one before the labels, or L3, of a tagged packet; else the one at its place. */
  #setType(type: number): void {
    const packet = this.#packet;
    if (this.#type !== PACKET_TYPE.ETHERNET) return;
    const before = this.#labels >= 0 ? this.#labels : this.#layers.l3;
    write16(packet, isTagged(packet) ? before - 2 : ethernet.fields.type.byteOffset, type);
  }

  #pushMpls(ethertype: number, lse: number): void {
    this.#needHeadroom(mpls.minBytes);
    if (this.#labels < 0) this.#labels = this.#layers.l3;
    this.#setType(ethertype);
    const at = this.#labels;
    this.#moveStart(-mpls.minBytes, at);
    this.#labels = at;
    write32(this.#packet, at, lse);
  }

  #popMpls(ethertype: number): void {
    const at = this.#labels;
    if (at < 0 || this.#packet.length - at < mpls.minBytes) return;
    const packet = this.#writable();
    this.#setType(ethertype);
    const isLast = (packet[at + mpls.fields.bos.byteOffset]! & 1) !== 0;
    this.#moveStart(mpls.minBytes, at);
    this.#labels = isLast ? -1 : at;
    // Without an Ethernet header the packet itself becomes what the type says: a bridged frame begins with one again.
    if (at === 0) this.#type = ethertype === ETH_TYPE.TEB ? PACKET_TYPE.ETHERNET : etherPacketType(ethertype);
  }

  /** Bytes in front of all that the packet is, which is of another type then. */
  #pushFront(bytes: Uint8Array, packetType: number): void {
    this.#needHeadroom(bytes.length);
    this.#moveStart(-bytes.length, 0);
    this.#packet.set(bytes);
    this.#type = packetType;
    this.#layers.dlType = packetType & 0xffff;
    this.#layers.l3 = 0;
    this.#layers.l4 = -1;
    this.#labels = -1;
  }

  #addMpls(ethertype: number, lse: number): void {
    const { l3 } = this.#layers;
    const bytes = new Uint8Array(mpls.minBytes);
    write32(bytes, 0, lse);
    this.#pushFront(bytes, etherPacketType(ethertype));
    // What is behind the labels stays where it is.
    this.#layers.l3 = l3 + mpls.minBytes;
    this.#labels = 0;
  }

  #pushEthernet(dst: Uint8Array, src: Uint8Array): void {
    this.#needHeadroom(ethernet.minBytes);
    this.#moveStart(-ethernet.minBytes, 0);
    const packet = this.#packet;
    packet.set(dst, ethernet.fields.dst.byteOffset);
    packet.set(src, ethernet.fields.src.byteOffset);
    write16(packet, ethernet.fields.type.byteOffset, this.#type & 0xffff);
    this.#type = PACKET_TYPE.ETHERNET;
  }

  #popEthernet(): void {
    const bytes = this.#labels >= 0 ? this.#labels : this.#layers.l3;
    this.#type = etherPacketType(read16(this.#packet, bytes - 2));
    this.#writable();
    this.#moveStart(bytes, 0);
  }

  /** Returns whether the packet is still there. */
  #popNsh(): boolean {
    const packet = this.#packet;
    const at = this.#layers.l3;
    if (this.#type !== PACKET_TYPE.NSH || packet.length - at < nsh.minBytes) return true;
    const inside = NSH_INSIDE[packet[at + nsh.fields.np.byteOffset]!];
    if (inside === undefined) return false;
    this.#writable();
    this.#moveStart(Math.min((read16(packet, at) & 0x3f) * nsh.length!.unit, packet.length), 0);
    this.#type = inside;
    return true;
  }

  #setShim(target: ShimTarget, bytes: Uint8Array): void {
    const at = target === "mpls_lse" ? this.#labels : this.#layers.l3;
    const { length } = this.#packet;
    if (target === "mpls_lse") {
      if (at >= 0 && length - at >= mpls.minBytes) this.#writable().set(bytes, at);
    } else if (this.#layers.dlType === ETH_TYPE.NSH && at >= 0 && length - at >= nsh.minBytes) {
      setNsh(this.#writable(), at, target, bytes);
    }
  }
}
