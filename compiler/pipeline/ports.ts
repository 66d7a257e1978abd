// The ports of a switch, as translation sees them.

import { PORT } from "../openflow/types.js";
import type { TunnelConfig } from "./tunnel/config.js";

/** Flags of a port (OpenFlow `ofp_port_config`). */
export interface PortConfig {
  readonly portDown: boolean;
  readonly noReceive: boolean;
  readonly noForward: boolean;
  readonly noFlood: boolean;
  readonly noPacketIn: boolean;
}

export interface Port {
  /** OpenFlow port number; PORT.LOCAL for the bridge's own. */
  readonly number: number;
  readonly name: string;
  /** Link state: what fast failover looks at. */
  readonly up: boolean;
  readonly config: PortConfig;
  /** Where packets go that leave by it, if it is a tunnel. */
  readonly tunnel?: TunnelConfig;
}

/** What is said of a port; the rest stays as it was. */
export interface PortChange {
  readonly number: number;
  readonly name?: string;
  readonly up?: boolean;
  readonly config?: Partial<PortConfig>;
  readonly tunnel?: TunnelConfig;
}

export const DEFAULT_PORT_CONFIG: PortConfig = {
  portDown: false,
  noReceive: false,
  noForward: false,
  noFlood: false,
  noPacketIn: false,
};

export class Ports {
  readonly #byNumber = new Map<number, Port>();
  /** By ascending number: the order of FLOOD and ALL. */
  #list: readonly Port[] = [];

  /** @param bridge - name of the bridge, and so of its own port */
  constructor(readonly bridge: string) {}

  get(number: number): Port | undefined {
    return this.#byNumber.get(number);
  }

  /** By ascending number. */
  get list(): readonly Port[] {
    return this.#list;
  }

  /** Adds a port, or changes the one with its number. */
  set({ number, name, up, config, tunnel }: PortChange): Port {
    const old = this.#byNumber.get(number);
    const kept = tunnel ?? old?.tunnel;
    const port: Port = {
      number,
      ...(kept === undefined ? {} : { tunnel: kept }),
      name: name ?? old?.name ?? (number === PORT.LOCAL ? this.bridge : `p${number}`),
      up: up ?? old?.up ?? true,
      config: { ...(old?.config ?? DEFAULT_PORT_CONFIG), ...config },
    };
    this.#byNumber.set(number, port);
    this.#sort();
    return port;
  }

  /** @returns whether there was such a port */
  delete(number: number): boolean {
    const found = this.#byNumber.delete(number);
    if (found) this.#sort();
    return found;
  }

  #sort(): void {
    this.#list = [...this.#byNumber.values()].sort((a, b) => a.number - b.number);
  }
}
