// Why a megaflow was taken out of the datapath. The names are those of OVS (ofproto-dpif-upcall.c, enum
// flow_del_reason), so that what is known about one switch helps with the other.

export const DELETE_REASONS = {
  "avoid-caching": "the flow must not be cached",
  "bad-odp-fit": "the mask cannot be expressed in the datapath's key",
  "flow-idle": "no packet for the idle time",
  "flow-limit": "too many megaflows: the limit was reached",
  "flow-wildcarded": "the tables changed and the flow needs a narrower mask",
  "no-ofproto": "its port left the switch",
  purge: "a user asked for it",
  "too-expensive": "not worth the time to translate it again",
  "update-fail": "the datapath refused a change of it",
  "xlation-error": "translation failed",
  "flow-missing-dp": "the datapath had lost it",
} as const;

export type DeleteReason = keyof typeof DELETE_REASONS;

/** Deletions by reason. */
export type DeleteCounts = Record<DeleteReason, number>;

export const newDeleteCounts = (): DeleteCounts =>
  Object.fromEntries(Object.keys(DELETE_REASONS).map((reason) => [reason, 0])) as DeleteCounts;
