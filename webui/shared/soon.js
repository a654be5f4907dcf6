/**
 * A function that runs `act` after `ms`, once for many calls. Its `now()` runs it at once if it is due.
 */
export function soon(ms, act) {
  let timer = null;
  const run = () => {
    clearTimeout(timer);
    timer = null;
    act();
  };
  const call = () => {
    timer ??= setTimeout(run, ms);
  };
  call.now = () => {
    if (timer !== null) run();
  };
  return call;
}
