// A plotly FigureWidget whose 5 MB bundle comes once a page (widgets.js) and may come late. anywidget gives a widget two seconds to start;
// one that needs longer never hears of a change again. So this one starts at once, and makes up for what it missed.
const parts = ['addTraces', 'deleteTraces', 'moveTraces', 'restyle', 'relayout', 'update', 'animate', 'removeLayoutProps', 'removeTraceProps'].map(p => `_py2js_${p}`)

export default () => {
  let figure, ready
  return {
    initialize({ model }) {
      const missed = [], shared = globalThis.sskdPlotly ??= {}
      shared.promise ??= new Promise(resolve => { shared.resolve = resolve })
      for (const p of parts) model.on(`change:${p}`, () => { if (!figure && model.get(p) !== null) missed.push([p, model.get(p)]) })
      ready = shared.promise.then(bundle => {
        figure = bundle()
        figure.initialize({ model })
        for (const [p, value] of missed) { model.set(p, null); model.set(p, value); model.set(p, null) }
      })
    },
    async render({ model, el, signal }) {
      await ready
      while (!el.clientWidth && !signal?.aborted) await new Promise(soon => setTimeout(soon, 50))  // plotly asks the page how wide it may be
      if (signal?.aborted) return
      const leave = figure.render({ model, el })
      let due = 0
      const watch = new ResizeObserver(() => { clearTimeout(due); due = setTimeout(() => window.dispatchEvent(new Event('resize')), 80) })
      watch.observe(el.parentElement ?? el)
      return () => { watch.disconnect(); clearTimeout(due); leave?.() }
    },
  }
}
