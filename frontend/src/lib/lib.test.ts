import { bytes, elapsed, took } from "./duration";
import { uuid7 } from "./uuid7";

describe("durations and sizes", () => {
  it("read as people say them", () => {
    expect([took(40), took(3100), took(352_000)]).toEqual(["40 ms", "3.1 s", "5:52"]);
    expect([elapsed(41_000), elapsed(3_723_000), elapsed(-5)]).toEqual(["0:41", "1:02:03", "0:00"]);
    expect([bytes(812), bytes(2_100), bytes(812_000), bytes(12_000_000)]).toEqual(["812 B", "2.1 kB", "812 kB", "12.0 MB"]);
  });
});

describe("uuid7", () => {
  it("is a version 7 whose order is that of time", () => {
    const [early, late] = [uuid7(1_000), uuid7(2_000)];
    expect(early).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(early < late).toBe(true);
    expect(uuid7()).not.toBe(uuid7());
  });
});
