import { ago, dollars, left, money, parseDollars, price } from "./format";
import { safeNext } from "./next-url";

test("an unknown price is never shown as nothing", () => {
  expect(money(null, "price unknown")).toBe("price unknown");
  expect(money(0, "price unknown")).toBe("$0.00");
  expect(money(4_200, "")).toBe("$0.0042");
  expect(money(7, "")).toBe("$0.000007");
  expect(money(4_180_000, "")).toBe("$4.18");
  expect(price(25_000)).toBe("$0.025");
});

test("typed dollars become exact micro-dollars and back", () => {
  expect(parseDollars("0.1")).toBe(100_000);
  expect(parseDollars("$12.345678")).toBe(12_345_678);
  for (const wrong of ["", "1,5", "-1", "1.2345678", "abc", "1e3"]) expect(parseDollars(wrong)).toBeUndefined();
  for (const amount of [0, 1, 100_000, 250_000, 15_000_000, 999_999_999]) expect(parseDollars(dollars(amount))).toBe(amount);
});

test("times are told from now", () => {
  const now = Date.parse("2026-11-17T14:00:00Z");
  expect(ago("2026-11-17T13:59:30Z", now)).toBe("now");
  expect(ago("2026-11-17T13:39:00Z", now)).toBe("21 min. ago");
  expect(left("2026-11-17T14:29:12Z", now)).toBe("29:12");
  expect(left("2026-11-18T13:10:00Z", now)).toBe("23 h 10 min");
  expect(left("2026-11-17T13:00:00Z", now)).toBe("0:00");
});

test("sign-in leads back into this product and nowhere else", () => {
  expect(safeNext("/agents/1?tab=yaml", "/threads")).toBe("/agents/1?tab=yaml");
  for (const elsewhere of ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "", null]) {
    expect(safeNext(elsewhere, "/threads")).toBe("/threads");
  }
});
