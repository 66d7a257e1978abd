// Node 20 has Symbol.dispose but no DisposableStack. A Scope owns what was opened while something larger is being put
// together: success moves the ownership on, failure closes everything in reverse order.

/** Owns disposables and disposes them in reverse order of {@link Scope.use}. */
export class Scope implements Disposable {
  private owned: Disposable[] = [];

  /** Takes ownership of `resource` and returns it. */
  use<T extends Disposable>(resource: T): T {
    this.owned.push(resource);
    return resource;
  }

  /** Runs `undo` when the scope is disposed. */
  defer(undo: () => void): void {
    this.owned.push({ [Symbol.dispose]: undo });
  }

  /** Moves everything owned into a new scope; this one is empty afterwards. */
  move(): Scope {
    const next = new Scope();
    next.owned = this.owned;
    this.owned = [];
    return next;
  }

  /** Disposes all that is owned, in reverse. Goes on after a failure and throws the first one at the end. */
  [Symbol.dispose](): void {
    const owned = this.owned;
    this.owned = [];
    let failed = false;
    let failure: unknown;
    for (const resource of owned.reverse()) {
      try {
        resource[Symbol.dispose]();
      } catch (error) {
        if (!failed) failure = error;
        failed = true;
      }
    }
    if (failed) throw failure;
  }
}
