// Draws the figures of a page when they come near, in the colors of the theme, and again when the theme changes.
const home = document.currentScript.src.replace(/figures\.js.*/, '')
const isDark = () => document.documentElement.dataset.theme === 'dark'
const touch = matchMedia('(pointer: coarse)').matches  // a finger scrolls the page; it does not zoom into a figure
let library

function plotly() {
  library ??= new Promise((yes, no) => document.head.append(Object.assign(document.createElement('script'), { src: home + 'plotly.min.js', onload: yes, onerror: no })))
  return library
}

// sskd_tutor.viz.training draws for light or dark by changing ink, paper and template only, so one can be made of the other;
// what is white in a trace stays white: it lies on a color
function dark(fig) {
  const { ink, paper } = palette, rgb = hex => hex.match(/\w\w/g).map(n => parseInt(n, 16)).join(', ')
  const words = Object.fromEntries(Object.entries(palette.words).map(([light, dark]) => [light.toLowerCase(), dark]))
  const inks = { ...words, [ink.light.toLowerCase()]: ink.dark }, all = { ...inks, [paper.light.toLowerCase()]: paper.dark, white: paper.dark }
  const text = (s, swap) => swap[s.toLowerCase()] ?? (swap === all ? s.replace(`rgba(${rgb(paper.light)},`, `rgba(${rgb(paper.dark)},`) : s)
  const walk = (v, swap) => typeof v === 'string' ? text(v, swap) : Array.isArray(v) ? v.map(x => walk(x, swap)) : v && typeof v === 'object'
    ? Object.fromEntries(Object.entries(v).map(([k, x]) => [k, k === 'colorscale' ? x : walk(x, swap)])) : v
  const both = f => ({ ...f, data: walk(f.data, inks), layout: walk(f.layout, all) })
  return { ...both({ ...fig, layout: { ...fig.layout, template: palette.template } }), frames: fig.frames?.map(both) }
}

// A wall of maps on a phone: the first images only, no color bars, no play button, a title that fits
function narrow(fig) {
  const less = layout => Object.fromEntries(Object.entries(layout ?? {}).map(([k, v]) => [k, /^xaxis/.test(k) ? { ...v, range: [0, 4] }
    : /^coloraxis/.test(k) ? { ...v, showscale: false } : k === 'title' ? { ...v, x: 0, xref: 'container', font: { ...v.font, size: 13 } }
    : k === 'updatemenus' ? [] : k === 'sliders' ? v.map(s => ({ ...s, x: 0, len: 1 })) : v]))
  return { ...fig, layout: less(fig.layout), frames: fig.frames.map(f => ({ ...f, layout: less(f.layout) })) }
}

// The width of the page; the play and pause buttons keep their room beside the slider
function fitted(fig, wide, own) {
  const { width, ...layout } = fig.layout, { l = 80, r = 80 } = layout.margin ?? {}
  const start = layout.updatemenus?.length ? 108/Math.max(216, wide - l - r) : 0
  layout.sliders = layout.sliders?.map(s => s.x < start ? { ...s, x: start, len: 1 - start } : s)
  layout.font = { ...layout.font, color: layout.font?.color ?? palette.ink[isDark() ? 'dark' : 'light'] }
  return { ...fig, layout: { ...layout, autosize: true, ...(own ? {} : { paper_bgcolor: 'rgba(0,0,0,0)' }), ...(touch ? { dragmode: false } : {}) },
    config: { responsive: true, displaylogo: false, modeBarButtonsToRemove: ['select2d', 'lasso2d'], ...(touch ? { displayModeBar: false } : {}) } }
}

const now = { mode: 'immediate', frame: { duration: 0 }, transition: { duration: 0 } }
const show = (plot, frame) => Plotly.animate(plot, frame, now).catch(() => {})  // a later one may come between
const leader = box => (box.closest('.run') ?? box).querySelector('.plot')  // in a run, the first figure has the slider

async function paint(box) {
  await plotly()
  const plot = box.querySelector('.plot'), slider = leader(box).layout?.sliders?.[0], first = !box.dataset.drawn
  const light = JSON.parse(box.querySelector('script').textContent), leads = plot === leader(box)
  const own = box.matches('.own')  // drawn for a dark page, to be shown
  const small = box.matches('.run *') && leads && box.clientWidth < 500
  const fig = fitted((small ? narrow : f => f)(isDark() && !own ? dark(light) : light), plot.clientWidth, own)
  if (slider && leads) fig.layout.sliders[0].active = slider.active
  await Plotly.react(plot, fig)
  if (slider) show(plot, slider.steps[slider.active].args[0])
  if (first && leads) plot.on('plotly_animatingframe', ({ name }) => {
    for (const b of box.closest('.run')?.querySelectorAll('.figure[data-drawn]') ?? []) if (b !== box) show(b.querySelector('.plot'), [name])
  })
  box.dataset.drawn = isDark() ? 'dark' : 'light'
}

const draw = box => box.busy = (box.busy ?? Promise.resolve()).then(() => paint(box))

const near = new IntersectionObserver(seen => {
  for (const { target, isIntersecting } of seen) if (isIntersecting) { near.unobserve(target); draw(target) }
}, { rootMargin: '600px' })
document.querySelectorAll('.figure').forEach(box => near.observe(box))
new MutationObserver(() => document.querySelectorAll('.figure[data-drawn]').forEach(box => box.dataset.drawn !== (isDark() ? 'dark' : 'light') && draw(box)))
  .observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] })
