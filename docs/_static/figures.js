// Draws the figures of a page when they come near, in the colors of the theme, and again when the theme changes.
const home = document.currentScript.src.replace(/figures\.js.*/, '')
const isDark = () => document.documentElement.dataset.theme === 'dark'
const slim = matchMedia('(max-width: 600px)')   // a phone
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

// On a phone a figure is wider than the page and scrolls; its title is in lines that can be read without
function wrapped(text, letters) {
  const out = ['']
  for (const word of text.split(' ')) {
    const now = out.at(-1)
    if (now && now.length + 1 + word.length > letters) out.push(word)
    else out[out.length - 1] = now + (now && ' ') + word
  }
  return out
}

// A title's lines for `width` pixels: each is plain text, or text within one tag of its own size, as in <span style="font-size:13px">
function lines(text, width, size) {
  return text.split('<br>').flatMap(line => {
    const [, open = '', words, close = ''] = line.match(/^(<[^>]+>)?(.*?)(<\/[^>]+>)?$/)
    if (words.includes('<')) return [line]   // words of several looks stay together
    const px = +(open.match(/font-size: *(\d+)px/)?.[1] ?? size)
    return wrapped(words, Math.floor((width - 8)/(.56*px))).map(part => open + part + close)
  })
}

function onPhone(fig, width) {
  const { title, margin, height = 450, sliders, ...layout } = fig.layout
  if (!title?.text) return fig
  const size = title.font?.size ?? 17, inLines = text => lines(text, width, size)
  const broken = title => title?.text ? { ...title, text: inLines(title.text).join('<br>'), x: 0, xref: 'container', pad: { ...title.pad, l: 4 } } : title
  const more = Math.ceil(1.3*size*(inLines(title.text).length - title.text.split('<br>').length))
  const stops = sliders?.map(s => ({ ...s, steps: s.steps.map(step => {
    const [data, look] = step.args ?? []
    return look?.['title.text'] ? { ...step, args: [data, { ...look, 'title.text': inLines(look['title.text']).join('<br>') }] } : step
  }) }))
  const frames = fig.frames?.map(f => f.layout?.title ? { ...f, layout: { ...f.layout, title: broken(f.layout.title) } } : f)
  return { ...fig, frames, layout: { ...layout, title: broken(title), height: height + more, margin: { ...margin, t: (margin?.t ?? 100) + more }, ...(stops ? { sliders: stops } : {}) } }
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
  const whole = fitted(isDark() && !own ? dark(light) : light, own)
  const fig = sskdMoments.native(plot, slim.matches ? onPhone(whole, box.clientWidth) : whole)
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
slim.addEventListener('change', () => document.querySelectorAll('.figure[data-drawn]').forEach(draw))
