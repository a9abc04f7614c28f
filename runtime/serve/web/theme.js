// Runs before the first paint, so that the page does not flash in the other colours.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("llrt.theme");
  } catch {
    // Storage is switched off: the system's colours.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
