import assert from "node:assert/strict";
import { test } from "node:test";

import { voucherFor } from "../src/voucher.js";

const says = (probability) => async () => ({
  json: async () => ({ predictions: [{ probabilities: { Yes: probability } }] }),
});

test("without a churn service everybody gets a voucher", async () => {
  assert.equal(await voucherFor({}, { url: "" }), 500);
});

test("only who is likely to leave gets one", async () => {
  assert.equal(await voucherFor({}, { url: "http://churn", request: says(0.8) }), 500);
  assert.equal(await voucherFor({}, { url: "http://churn", request: says(0.2) }), 0);
});

test("a churn service that fails holds up nobody", async () => {
  const fails = async () => {
    throw new Error("away");
  };
  assert.equal(await voucherFor({}, { url: "http://churn", request: fails }), 0);
});
