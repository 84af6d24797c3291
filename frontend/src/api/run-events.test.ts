import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import { openRun, type PlacedEvent, type RunEvent, type StreamState } from "./run-events";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A server on a free port that answers each connection by the next handler; the last one answers the rest. */
async function serve(...handlers: Handler[]) {
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers["last-event-id"] as string | undefined);
    handlers[Math.min(seen.length, handlers.length) - 1]!(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const real = globalThis.fetch;
  // The page and the API share an origin; here the relative address gets one.
  vi.spyOn(globalThis, "fetch").mockImplementation((path, init) => real(new URL(String(path), base), init));
  return { seen, close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))) };
}

const open = (response: ServerResponse) => response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
const line = (id: string, event: RunEvent) => `id: ${id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
const delta = (text: string): RunEvent => ({ type: "message.delta", text });
const finished: RunEvent = { type: "run.finished", status: "completed", problem: null };

async function watch(until?: (state: StreamState, events: PlacedEvent[]) => boolean) {
  const control = new AbortController();
  const events: PlacedEvent[] = [];
  const states: StreamState[] = [];
  await openRun("r-1", {
    onEvents: (batch) => events.push(...batch),
    onState: (state) => {
      states.push(state);
      if (until?.(state, events)) control.abort();
    },
    signal: control.signal,
  });
  return { events, states };
}

const texts = (events: PlacedEvent[]) => events.flatMap(({ event }) => (event.type === "message.delta" ? [event.text] : []));

function setHidden(value: boolean): void {
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (value ? "hidden" : "visible") });
  document.dispatchEvent(new Event("visibilitychange"));
}

describe("openRun", () => {
  let server: Awaited<ReturnType<typeof serve>>;
  afterEach(async () => {
    setHidden(false);
    await server.close();
  });

  it("goes on after a dropped connection from the last whole event", async () => {
    server = await serve(
      (_, response) => {
        open(response);
        // The cut falls into the middle of an event: its half is not an event.
        response.write(line("1-1", delta("a")) + line("1-2", delta("b")) + line("1-3", delta("lost")).slice(0, 20));
        setTimeout(() => response.destroy(), 30);
      },
      (_, response) => {
        open(response).end(line("1-3", delta("c")) + line("1-4", finished));
      },
    );
    const { events, states } = await watch();
    expect(texts(events)).toEqual(["a", "b", "c"]);
    expect(server.seen).toEqual([undefined, "1-2"]);
    expect(states.at(-1)).toBe("ended");
    expect(states).toContain("reconnecting");
  });

  it("reads letters that are torn between two packets", async () => {
    server = await serve((_, response) => {
      open(response);
      const bytes = Buffer.from(line("1-1", delta("straße №")) + line("1-2", finished));
      const torn = bytes.indexOf(0xc3) + 1;
      response.write(bytes.subarray(0, torn));
      setTimeout(() => response.end(bytes.subarray(torn)), 20);
    });
    expect(texts((await watch()).events)).toEqual(["straße №"]);
  });

  it.each([
    [401, "refused"],
    [404, "missing"],
  ])("does not ask again after a %i", async (status, state) => {
    server = await serve((_, response) => response.writeHead(status).end());
    expect((await watch()).states.at(-1)).toBe(state);
    expect(server.seen).toHaveLength(1);
  });

  it("tries again after a fault of the server", async () => {
    server = await serve(
      (_, response) => response.writeHead(502).end(),
      (_, response) => {
        open(response).end(line("1-1", finished));
      },
    );
    expect((await watch()).states.at(-1)).toBe("ended");
    expect(server.seen).toHaveLength(2);
  });

  it("lets go of the connection while the tab is hidden and goes on when it is seen again", async () => {
    let dropped = false;
    server = await serve(
      (_, response) => {
        open(response).write(line("1-1", delta("a")));
        response.on("close", () => (dropped = true));
        setTimeout(() => setHidden(true), 50);
      },
      (_, response) => {
        open(response).end(line("1-2", delta("b")) + line("1-3", finished));
      },
    );
    const { events } = await watch((state) => {
      if (state === "paused") setTimeout(() => setHidden(false), 50);
      return false;
    });
    expect(texts(events)).toEqual(["a", "b"]);
    expect(server.seen).toEqual([undefined, "1-1"]);
    expect(dropped).toBe(true);
  });

  it("stops when its reader leaves", async () => {
    server = await serve((_, response) => {
      open(response).write(line("1-1", delta("a")));
    });
    const { states } = await watch((state) => state === "live");
    expect(states).toEqual(["connecting", "live"]);
  });
});
