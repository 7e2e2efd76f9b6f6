// A native slider and a play button for a figure with frames, in place of plotly's own, which no keyboard reaches.
// `native(plot, fig)` takes plotly's controls off the figure; `follow(plot)` shows the chosen moment once the figure is drawn.
const sskdMoments = (() => {
  const make = (tag, props, ...children) => { const el = Object.assign(document.createElement(tag), props); el.append(...children); return el }
  const now = { mode: 'immediate', frame: { duration: 0, redraw: true }, transition: { duration: 0 } }

  function controls(plot, stops, prefix, first) {
    if (plot.moments) return Object.assign(plot.moments, { stops })   // drawn again, for another width or theme
    const play = make('button', { type: 'button', textContent: '▶', ariaLabel: 'Play' })
    const range = make('input', { type: 'range', min: 0, max: stops.length - 1, step: 1, value: first, ariaLabel: 'moment of the training' })
    const said = make('output', {})
    const bar = make('div', { className: 'moments' }, play, range, said)
    plot.after(bar)
    let due = 0
    const state = { bar, range, at: first, stops }
    const tell = () => { range.value = state.at; said.textContent = prefix + stops[state.at].label; range.setAttribute('aria-valuetext', stops[state.at].label) }
    const go = at => { state.at = at; tell(); follow(plot) }
    const pause = () => { clearTimeout(due); due = 0; play.textContent = '▶'; play.ariaLabel = 'Play' }
    const next = () => { go((state.at + 1) % stops.length); due = setTimeout(next, state.at === stops.length - 1 ? 2500 : 450) }
    play.onclick = () => { if (due) return pause(); play.textContent = '❚❚'; play.ariaLabel = 'Pause'; next() }
    range.oninput = () => { pause(); go(+range.value) }
    tell()
    return plot.moments = state
  }
  function native(plot, fig) {
    const slider = fig.layout.sliders?.[0]
    if (!slider?.steps?.length) return fig
    const { sliders, updatemenus, ...layout } = fig.layout
    const below = (slider.pad?.t ?? 0) - 4, less = (layout.margin?.b ?? 80) - below   // what `animated` had added for them
    controls(plot, slider.steps, slider.currentvalue?.prefix ?? '', slider.active ?? 0)
    return { ...fig, layout: { ...layout, height: layout.height - less, margin: { ...layout.margin, b: below } } }
  }
  function follow(plot) {
    if (!plot.moments) return
    const stop = plot.moments.stops[plot.moments.at]
    if (stop.method === 'animate') return Plotly.animate(plot, stop.args[0], now).catch(() => {})   // a later one may come between
    return Plotly[stop.method](plot, ...structuredClone(stop.args))   // 'update', 'restyle', 'relayout': no frames
  }
  return { native, follow }
})()
