/** An act's arguments, whole and exactly: nothing is cut, long values scroll inside. */
export function Arguments({ value }: { value: Record<string, unknown> }) {
  return (
    <dl className="well arguments">
      {Object.entries(value).map(([name, one]) => (
        <div key={name}>
          <dt className="mono-s muted">{name}</dt>
          <dd className="mono">
            <pre tabIndex={0} role="region" aria-label={name}>
              {typeof one === "string" ? one : JSON.stringify(one, null, 2)}
            </pre>
          </dd>
        </div>
      ))}
    </dl>
  );
}
