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

// The width of the page; a native slider in place of plotly's own
function fitted(fig, own) {
  const { width, ...layout } = fig.layout
  layout.font = { ...layout.font, color: layout.font?.color ?? palette.ink[isDark() ? 'dark' : 'light'] }
  return { ...fig, layout: { ...layout, autosize: true, ...(own ? {} : { paper_bgcolor: 'rgba(0,0,0,0)' }), ...(touch ? { dragmode: false } : {}) },
    config: { responsive: true, displaylogo: false, modeBarButtonsToRemove: ['select2d', 'lasso2d'], ...(touch ? { displayModeBar: false } : {}) } }
}

async function paint(box) {
  await plotly()
  const plot = box.querySelector('.plot'), light = JSON.parse(box.querySelector('script').textContent)
  const own = box.matches('.own')  // drawn for a dark page, to be shown
  const fig = sskdMoments.native(plot, fitted(isDark() && !own ? dark(light) : light, own))
  await Plotly.react(plot, fig)
  await sskdMoments.follow(plot)
  box.dataset.drawn = isDark() ? 'dark' : 'light'
}

const draw = box => box.busy = (box.busy ?? Promise.resolve()).then(() => paint(box))

const near = new IntersectionObserver(seen => {
  for (const { target, isIntersecting } of seen) if (isIntersecting) { near.unobserve(target); draw(target) }
}, { rootMargin: '120px' })  // 5 MB of plotly come when the first figure does, not before
document.querySelectorAll('.figure').forEach(box => near.observe(box))
new MutationObserver(() => document.querySelectorAll('.figure[data-drawn]').forEach(box => box.dataset.drawn !== (isDark() ? 'dark' : 'light') && draw(box)))
  .observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] })
