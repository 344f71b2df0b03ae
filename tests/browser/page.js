// What the tests ask of the notebook that is open in JupyterLab. Added to every page before it loads.
window.course = (() => {
  const outside = []; // what the kernel reported apart from any cell: exceptions in a widget's callback

  const panel = () => window.jupyterapp.shell.currentWidget;
  const cells = () => panel().content.widgets;
  const kernel = () => panel().sessionContext.session.kernel;
  const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const outputs = (index) => cells()[index].model.outputs?.toJSON() ?? [];
  const joined = (text) => (Array.isArray(text) ? text.join("") : text ?? "");
  const widgets = (index) => cells()[index].node.querySelectorAll(".jp-OutputArea-output .jupyter-widgets");
  const isWidget = (output) => "application/vnd.jupyter.widget-view+json" in (output.data ?? {});

  // True once the notebook is there and its kernel waits for work.
  function ready() {
    const session = window.jupyterapp?.shell?.currentWidget?.sessionContext;
    if (!session?.session?.kernel || session.session.kernel.status !== "idle" || !cells().length) return false;
    if (!session.listening) {
      session.listening = true;
      session.iopubMessage.connect((_, message) => {
        const inCell = message.parent_header?.msg_type === "execute_request";
        const { ename, evalue } = message.content;
        if (message.header.msg_type === "error" && !inCell) outside.push(`${ename}: ${evalue}`);
      });
    }
    return true;
  }

  // A promise's value; an error when the kernel keeps silent for a minute, as a dead one does for ever.
  const heard = (promise) => Promise.race([promise, new Promise((_, fail) =>
    setTimeout(() => fail(new Error("the kernel has not answered for 60 s")), 60_000))]);

  // Code for the kernel that leaves no trace in the notebook.
  async function tell(code) {
    const reply = await heard(kernel().requestExecute({ code, store_history: false, silent: true }).done);
    return reply.content.status;
  }

  // As with Shift+Enter; returns at once.
  function run(index) {
    panel().content.activeCellIndex = index;
    window.jupyterapp.commands.execute("notebook:run-cell");
  }

  // "" while a cell runs; then "done" or "raised", or the words of a dialog that stands in the way.
  function finished(index) {
    const dialog = document.querySelector(".jp-Dialog");
    if (dialog) return dialog.innerText.replaceAll("\n", " ");
    if (cells()[index].model.executionCount === null || kernel().status !== "idle") return "";
    if (outputs(index).some((output) => output.output_type === "error")) return "raised";
    const wanted = outputs(index).filter(isWidget).length;
    const shown = cells()[index].node.querySelectorAll(".jp-OutputArea-output > .jupyter-widgets").length;
    return shown >= wanted ? "done" : "";
  }

  // Words of the messages that JupyterLab shows in its corner.
  const messages = () => [...document.querySelectorAll(".Toastify__toast")].map((toast) => toast.innerText.replaceAll("\n", " "));

  // All that a cell put out which it should not have.
  function faults(index) {
    const found = [];
    for (const output of outputs(index)) {
      if (output.output_type === "error") found.push(`${output.ename}: ${output.evalue}`);
      if (output.name === "stderr") found.push(`on stderr: ${joined(output.text).slice(0, 200)}`);
    }
    for (const image of cells()[index].node.querySelectorAll("img")) {
      if (image.complete && !image.naturalWidth) found.push("a picture that cannot be shown");
    }
    return found;
  }

  // What is wrong with a cell of words: formulas, and markup that was not understood.
  function misprints(index) {
    const shown = cells()[index].node.querySelector(".jp-RenderedMarkdown");
    const found = [...shown.querySelectorAll("[data-mjx-error]")].map(
      (wrong) => `a formula that cannot be set: ${wrong.dataset.mjxError}`);
    const words = shown.cloneNode(true);
    words.querySelectorAll("code, pre, mjx-container").forEach((node) => node.remove());
    const left = words.textContent.match(/\$[^$\n]*[\\_^][^$\n]*\$|\*\*|\]\(|<\/?[a-z]+[ >]/);
    return left ? [...found, `markup shown as text: ${left[0]}`] : found;
  }

  // Over when the kernel has worked off what was sent to it so far: in its main thread, which runs the cells, and in
  // its subshells, threads in which newer kernels answer widgets.
  async function answered() {
    const own = kernel().subshellId;
    const found = kernel().supportsSubshells ? (await heard(kernel().requestListSubshell({}).done)).content.subshell_id : [];
    const questions = [null, ...found].map((id) => {
      kernel().subshellId = id;
      return kernel().requestCommInfo({});
    });
    kernel().subshellId = own;
    await heard(Promise.all(questions));
  }

  // When this is over, the kernel has heard of every key pressed so far, and the page shows its answers. Twice, as a
  // widget holds a second change back until the first is answered.
  async function settled() {
    for (let round = 0; round < 2; round++) {
      await painted();
      await answered();
    }
    await painted();
  }

  // What a cell's widgets show, apart from the controls' own values.
  function face(index) {
    return [...widgets(index)].flatMap((widget) => {
      if (widget.matches("img")) return [widget.src];
      if (widget.matches(".widget-html")) return [widget.innerText];
      if (widget.matches("button")) return [widget.innerText + widget.disabled + widget.style.backgroundColor];
      return [];
    }).join("\n");
  }

  // End the kernel, which would live on without the page.
  const leave = () => panel().sessionContext.shutdown();

  // Change JupyterLab's theme; over when the page is painted in it.
  async function dress(theme) {
    await window.jupyterapp.commands.execute("apputils:change-theme", { theme });
    await new Promise((done) => setTimeout(done, 1000));
    await painted();
  }

  // Of the notebook, without the empty room that JupyterLab leaves below the last cell.
  function height() {
    const [first, last] = [cells()[0], cells().at(-1)].map((cell) => cell.node.getBoundingClientRect());
    return Math.ceil(last.bottom - first.top + 40);
  }

  // What must be scrolled sideways to be read, and by how much.
  function too_wide() {
    const parts = ".jp-RenderedMarkdown, .jp-RenderedMarkdown pre, .cm-scroller, .jp-OutputArea-output, .jp-OutputArea-output pre";
    const found = cells().flatMap((cell, index) => [...cell.node.querySelectorAll(parts)].map((part) => ({ index, part })));
    return found.filter(({ part }) => part.clientWidth && part.scrollWidth > part.clientWidth + 1)
      .map(({ index, part }) => `cell ${index + 1}: ${part.matches(".cm-scroller") ? "code" : part.className || part.tagName} `
        + `needs ${part.scrollWidth} of ${part.clientWidth} pixels`);
  }

  const sources = () => cells().map((cell) => (cell.model.type === "code" ? cell.model.sharedModel.source : null));

  return { outside, ready, tell, run, finished, messages, faults, misprints, settled, painted, face, too_wide, dress, height, leave, sources,
           widgets: (index) => widgets(index).length };
})();
