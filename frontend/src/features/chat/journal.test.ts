import { step } from "./fixtures";
import { askedOf, lastContext } from "./journal";

const context = (total: number) => ({ parts: [{ name: "messages", tokens: total }], total, limit: 8000, dropped: 0 });
const call = (number: number, detail: Record<string, unknown> | null) => step({ number, kind: "model_call", call_id: null, detail });

it("says why a model was asked and what it was sent, as far as the journal kept it", () => {
  expect(askedOf(call(1, { provider: "openai", reason: "the agent's model", context: context(7) }))).toEqual({ reason: "the agent's model", context: context(7) });
  expect(askedOf(call(1, { provider: "openai" }))).toEqual({});
  expect(askedOf(call(1, null))).toEqual({});
  expect(askedOf(undefined)).toEqual({});
});

it("finds what was sent last", () => {
  expect(lastContext([call(300, { context: context(30) }), call(100, { context: context(10) }), call(400, {}), step({ number: 500 })])).toEqual(context(30));
  expect(lastContext([])).toBeNull();
});
