// What every page of widgets needs once: plotly's bundle for its figures (figure.js), and names for those who do not see them,
// the text beside a slider, the title of a figure. And the image behind a point that the mouse is on.
function initialize({ model }) {
  const shared = globalThis.sskdPlotly ??= {}
  shared.promise ??= new Promise(resolve => { shared.resolve = resolve })
  if (shared.asked || !model.get('bundle')) return
  shared.asked = true
  const url = URL.createObjectURL(new Blob([model.get('bundle')], { type: 'text/javascript' }))
  const load = () => import(url).then(m => shared.resolve(m.default)).finally(() => URL.revokeObjectURL(url))
  globalThis.requestIdleCallback ? requestIdleCallback(load) : setTimeout(load, 200)  // small widgets first: they have two seconds to start
}

function name(root) {
  for (const box of root.querySelectorAll('.widget-hslider, .widget-dropdown, .widget-toggle-buttons')) {
    const text = c => box.querySelector(c)?.textContent ?? ''
    for (const el of box.querySelectorAll('.noUi-handle, select')) el.setAttribute('aria-label', text('.widget-label'))
    for (const el of box.querySelectorAll('.noUi-handle')) el.setAttribute('aria-valuetext', text('.widget-readout'))
    for (const el of box.querySelectorAll('.widget-toggle-button')) el.setAttribute('aria-pressed', el.classList.contains('mod-active'))
  }
  for (const el of root.querySelectorAll('.js-plotly-plot')) {
    el.setAttribute('role', 'img')
    el.setAttribute('aria-label', [...el.querySelectorAll('.gtitle, .annotation-text')].map(t => t.textContent).join(', ') || 'figure')
    if (el.on && !el.sskdPoints) { el.sskdPoints = true; points(root, el) }
  }
  for (const el of root.querySelectorAll('.widget-play button')) el.setAttribute('aria-label', el.title || el.getAttribute('aria-label') || 'play')
}

function points(root, plot) {   // `point_images` keeps the images, out of sight
  const bank = () => root.querySelector('.sskd-points'), size = 84
  const tip = root.querySelector('.sskd-tip') ?? root.appendChild(Object.assign(document.createElement('div'), { className: 'sskd-tip', hidden: true }))
  plot.on('plotly_hover', ({ points: [p], event }) => {
    if (p?.data.meta !== 'images' || !bank()) return
    const { w, h, across, src, names } = bank().dataset, i = p.pointNumber, scale = size/Math.max(w, h)
    Object.assign(tip.style, { left: `${event.clientX + 14}px`, top: `${event.clientY + 14}px`, width: `${w*scale}px`, height: `${h*scale}px`,
      backgroundImage: `url(${src})`, backgroundSize: `${w*scale*across}px auto`, backgroundPosition: `${-(i % across)*w*scale}px ${-Math.floor(i/across)*h*scale}px` })
    tip.dataset.point = i
    tip.title = names.split('\n')[i]
    tip.hidden = false
  })
  plot.on('plotly_unhover', () => { tip.hidden = true })
}

function render({ el }) {
  let due = 0, watch
  const start = () => {
    const root = el.closest('.sskd')
    if (!root) { due = requestAnimationFrame(start); return }
    const soon = () => { cancelAnimationFrame(due); due = requestAnimationFrame(() => name(root)) }
    watch = new MutationObserver(soon)
    watch.observe(root, { subtree: true, childList: true, characterData: true, attributeFilter: ['class'] })
    soon()
  }
  el.style.display = 'none'
  start()
  return () => { cancelAnimationFrame(due); watch?.disconnect() }
}

export default { initialize, render }
