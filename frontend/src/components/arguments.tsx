/** An act's arguments, whole and exactly: nothing is cut, long values scroll inside. */
export function Arguments({ value }: { value: Record<string, unknown> }) {
  return (
    <dl className="well grid gap-2 px-3 py-2">
      {Object.entries(value).map(([name, one]) => (
        <div key={name} className="grid gap-x-3 sm:grid-cols-[112px_minmax(0,1fr)]">
          <dt className="mono-s muted leading-5">{name}</dt>
          <dd className="mono max-h-56 overflow-auto whitespace-pre-wrap [overflow-wrap:anywhere]" tabIndex={0}>
            {typeof one === "string" ? one : JSON.stringify(one, null, 2)}
          </dd>
        </div>
      ))}
    </dl>
  );
}
