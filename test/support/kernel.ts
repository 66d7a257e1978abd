// What the running kernel can do, for tests of features that not every supported kernel has. A kernel that should have a
// feature by its release and has not is a failure, never a reason to skip.

import assert from "node:assert/strict";
import { FEATURES, linux, probeFeatures, type Feature, type FeatureReport } from "libbpf-ts";
import { skip } from "./skip.js";

const reports = new Map<string, FeatureReport>();

const find = (name: string): Feature => {
  const feature = FEATURES.find((f) => f.name === name);
  assert.ok(feature, `no feature "${name}" in FEATURES`);
  return feature;
};

/** Whether the kernel has a feature of `FEATURES`. @throws AssertionError when it should have and has not */
export const hasFeature = (name: string): boolean => {
  const report = reports.get(name) ?? probeFeatures(linux(), [find(name)])[0]!;
  reports.set(name, report);
  assert.ok(report.isSupported || !report.isExpected, `Linux ${report.since} should have ${name}: ${report.reason}`);
  return report.isSupported;
};

/** Ends the running test, or its suite from a hook, as skipped unless the kernel has a feature of `FEATURES`. */
export const needs = (context: Mocha.Context, name: string): void => {
  if (!hasFeature(name)) skip(context, `needs Linux ${find(name).since} (${name})`);
};

/** How this kernel attaches programs to TC. */
export const tcWay = (): "tcx" | "clsact" => (hasFeature("tcx") ? "tcx" : "clsact");
