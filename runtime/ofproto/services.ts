// Who may connect to a switch, and whom it connects to: the management socket, controllers, places to listen at.

import { Scope } from "ebpf-assembler";
import { monotonicMs } from "../clock.js";
import type { Log } from "../log.js";
import { Connection } from "../openflow/connection.js";
import { Rconn } from "../openflow/rconn.js";
import { Listener, type TlsFiles } from "../openflow/stream.js";
import { parseTarget } from "../openflow/target.js";
import type { OfConnKind } from "./ofconn.js";
import type { Ofproto } from "./ofproto.js";

export interface ServiceOptions {
  readonly ofproto: Ofproto;
  readonly log: Log;
  /** Path of the management socket. */
  readonly management: string;
  /** Targets of controllers, active or passive. */
  readonly controllers: readonly string[];
  /** Passive targets for those who only ask. */
  readonly listen: readonly string[];
  readonly tls?: TlsFiles;
}

/** Connections of a switch. Disposing ends all of them and removes the sockets. */
export class Services implements Disposable {
  private readonly scope = new Scope();
  private readonly peers = new Set<Connection>();
  private isClosed = false;
  readonly controllers: Rconn[] = [];

  private constructor(private readonly options: ServiceOptions) {}

  /** @throws {@link RangeViolation} for a bad target, {@link StreamError} for a place that cannot be listened at */
  static async open(options: ServiceOptions): Promise<Services> {
    const services = new Services(options);
    try {
      await services.listen(`punix:${options.management}`, "service");
      for (const target of options.listen) await services.listen(target, "service");
      for (const target of options.controllers) await services.control(target);
      return services;
    } catch (error) {
      services[Symbol.dispose]();
      throw error;
    }
  }

  private async control(text: string): Promise<void> {
    if (parseTarget(text).isPassive) await this.listen(text, "primary");
    else this.connect(text);
  }

  /** Connects to a controller, and keeps connecting. @throws {@link RangeViolation} for a bad target */
  connect(text: string): void {
    const target = parseTarget(text);
    const { ofproto, tls, log } = this.options;
    const own = { target, clock: monotonicMs, log, ...(tls === undefined ? {} : { tls }) };
    this.controllers.push(this.scope.use(new Rconn(own, ofproto.events("primary"))));
  }

  private async listen(text: string, kind: OfConnKind): Promise<void> {
    const events = this.options.ofproto.events(kind);
    const listener = await Listener.open(parseTarget(text), this.options.tls, (stream, peer) => {
      if (this.isClosed) {
        stream.destroy();
        return;
      }
      const connection: Connection = new Connection(
        peer,
        stream,
        {
          ...events,
          onClosed: (closed, why) => {
            this.peers.delete(closed);
            events.onClosed(closed, why);
          },
        },
        monotonicMs,
      );
      this.peers.add(connection);
    });
    this.scope.use(listener);
  }

  [Symbol.dispose](): void {
    this.isClosed = true;
    for (const connection of [...this.peers]) connection[Symbol.dispose]();
    this.scope[Symbol.dispose]();
  }
}
