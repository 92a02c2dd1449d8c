// The checkout service: prices a basket and places the order.
import express from "express";
import pg from "pg";

import { voucherFor } from "./voucher.js";

const database = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const app = express();
app.use(express.json({ limit: "64kb" }));

app.get("/healthz", async (_request, response) => {
  await database.query("select 1");
  response.json({ status: "ok" });
});

app.post("/checkout", async (request, response) => {
  const { customerId, items } = request.body;
  if (!customerId || !Array.isArray(items) || items.length === 0) {
    return response.status(422).json({ error: "customerId and at least one item are required" });
  }
  const customer = await customerRow(customerId);
  if (!customer) {
    return response.status(404).json({ error: `customer ${customerId} is unknown` });
  }
  const total = items.reduce((sum, item) => sum + item.priceCents * item.quantity, 0);
  const voucherCents = await voucherFor(customer);
  response.json({ totalCents: Math.max(0, total - voucherCents), voucherCents });
});

async function customerRow(customerId) {
  const { rows } = await database.query("select * from customer_snapshot where customer_id = $1", [customerId]);
  return rows[0];
}

app.listen(Number(process.env.PORT ?? 3000));
