// A recorded run that moves, on canvas: stages side by side, play, a native slider, chapters, a choice of image. No library, no request.
(() => {
  const lock = '<svg class="lock" viewBox="0 0 12 16" role="img" aria-label="locked"><path d="M2 7V5a4 4 0 0 1 8 0v2h1v8H1V7zm2 0h4V5a2 2 0 0 0-4 0z"/></svg>'
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0))
  const inks = text => {   // a table of 256 colors, each as one number
    const rgb = bytes(text)
    return Uint32Array.from({ length: 256 }, (_, i) => (255 << 24 | rgb[3*i + 2] << 16 | rgb[3*i + 1] << 8 | rgb[3*i]) >>> 0)
  }
  const clamp = (v, low, high) => Math.min(high, Math.max(low, v))
  const make = (tag, props = {}, ...children) => {
    const el = document.createElement(tag)
    for (const [k, v] of Object.entries(props)) k in el && k !== 'style' ? el[k] = v : el.setAttribute(k, v)
    el.append(...children)
    return el
  }

  async function pixels(uri) {   // of a sprite: one byte a pixel, and its width
    const image = new Image()
    image.src = uri
    await image.decode()
    const canvas = make('canvas', { width: image.width, height: image.height }), pen = canvas.getContext('2d', { willReadFrequently: true })
    pen.drawImage(image, 0, 0)
    const { data } = pen.getImageData(0, 0, image.width, image.height), out = new Uint8Array(image.width*image.height)
    for (let i = 0; i < out.length; i++) out[i] = data[4*i]
    return { out, width: image.width, image }
  }

  function paint(canvas, w, h, value, table) {   // value(x, y): place in a table of 256 colors
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h })
    const pen = canvas.getContext('2d'), image = pen.createImageData(w, h), out = new Uint32Array(image.data.buffer)
    for (let y = 0, i = 0; y < h; y++) for (let x = 0; x < w; x++, i++) out[i] = table[value(x, y)]
    pen.putImageData(image, 0, 0)
  }

  async function start(root) {
    const film = JSON.parse(root.querySelector('script[type="application/json"]').textContent)
    const { stages, steps, images } = film, tables = { map: inks(film.colors.map), gap: inks(film.colors.gap) }
    const state = { step: steps.length - 1, image: -1, playing: 0 }
    root.querySelector('.still')?.remove()
    root.style.setProperty('--shape', `${images.w}/${images.h}`)

    // the page
    const say = make('p', { className: 'say' }), blocks = make('div', { className: 'blocks' }), chapters = make('div', { className: 'chapters', role: 'group', 'aria-label': 'stages' })
    const play = make('button', { className: 'play', type: 'button' }), pick = make('div', { className: 'pick', role: 'group', 'aria-label': 'image' })
    const range = make('input', { type: 'range', min: 0, max: steps.length - 1, step: 1, value: state.step, 'aria-label': 'moment of the training' })
    const under = make('div', { className: 'under' })
    const rows = ['image', 'teacher', 'student', 'difference']
    blocks.append(make('div', { className: 'labels', 'aria-hidden': 'true' }, make('div', { className: 'head' }), ...rows.map(name => make('div', {}, name))))
    for (const s of stages) {
      s.block = make('div', { className: 'block', role: 'img' })
      s.head = make('div', { className: 'head' })
      s.block.append(s.head)
      s.rows = rows.map((name, i) => make('div', { className: `line map ${i > 1 ? 'learner' : ''}` }))
      s.block.append(...s.rows)
      blocks.append(s.block)
      s.button = make('button', { type: 'button', title: `to the start of ${s.name}`, style: `flex: ${s.steps} 1 0` })
    }
    const head = film.head && make('button', { type: 'button', title: 'to the head', style: `flex: ${film.head.steps} 1 0` }, 'head')
    chapters.append(...stages.map(s => s.button), ...(head ? [head] : []))
    const bar = make('div', { className: 'bar' }, play, chapters, range)
    root.append(say, blocks, bar)
    if (film.curve) bar.append(under)

    // each place has its size before anything is decoded, so that the page does not jump
    const blank = () => make('canvas', { width: images.w, height: images.h })
    const columns_of = (s, n) => {
      s.block.style.setProperty('--n', n)
      for (const row of s.rows) while (row.childElementCount !== n) row.childElementCount < n ? row.append(blank()) : row.lastChild.remove()
    }
    for (const s of stages) {
      columns_of(s, images.shown.length)
      s.head.append(make('b', {}, s.name), make('br'), '\u00a0')
      s.button.append(s.name)
    }
    stages[0].block.classList.add('shown')
    say.textContent = steps[0].say
    const thumbs = images.names.map(blank)

    // one image: all its channels
    if (images.names.length > 1) {
      const choose = (i, props, ...inside) => {
        const b = make('button', { type: 'button', value: String(i), ...props }, ...inside)
        b.onclick = () => { state.image = i; show() }
        pick.append(b)
      }
      choose(-1, {}, 'several images')
      images.names.forEach((name, i) => choose(i, { className: 'image', title: `only image ${i}: ${name}`, 'aria-label': `only image ${i}: ${name}` }, thumbs[i]))
      root.append(pick)
    }

    // the curve below the slider
    if (film.curve) {
      const top = Math.max(1.05, ...film.curve.lines.flat().filter(v => v !== null).map(v => Math.min(v, 1.3)))
      const y = v => 100*(1 - Math.min(v, top)/top)
      const path = line => line.map((v, i) => v === null ? '' : `${i && line[i - 1] !== null ? 'L' : 'M'}${100*film.curve.x[i]} ${y(v)}`).join('')
      under.innerHTML = `<div>${film.curve.words}</div><svg class="curve" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="${film.curve.words}">`
        + `<line class="zero" x1="0" x2="100" y1="100" y2="100"/><line class="zero" x1="0" x2="100" y1="${y(1)}" y2="${y(1)}" stroke-dasharray="4 4"/>`
        + film.curve.lines.map((line, i) => `<path d="${path(line)}" stroke="${stages[i].color}"/>`).join('') + '<line class="now" y1="0" y2="100"/></svg>'
    }

    // inks for the paper that it lies on
    const tint = () => {
      const [r, g, b] = getComputedStyle(root).color.match(/[\d.]+/g).map(Number), dark = r + g + b > 384
      for (const s of stages) for (const el of [s.block, s.button]) { el.style.setProperty('--c', s.color); el.style.setProperty('--ct', s.ink[+dark]) }
      if (head) head.style.setProperty('--c', film.head.color)
    }
    tint()
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', tint)
    for (const el of [document.documentElement, document.body]) new MutationObserver(tint).observe(el, { attributes: true, attributeFilter: ['data-theme', 'data-jp-theme-light', 'class'] })

    // what it shows
    const [picture, ...sprites] = await Promise.all([pixels(images.sprite), ...stages.flatMap(s => [pixels(s.teacher), pixels(s.student)])])
    stages.forEach((s, i) => [s.t, s.s] = [sprites[2*i], sprites[2*i + 1]])
    const shot = (canvas, i) => {
      Object.assign(canvas, { width: images.w, height: images.h })
      canvas.getContext('2d').drawImage(picture.image, i*images.w, 0, images.w, images.h, 0, 0, images.w, images.h)
    }
    const pairs = s => state.image < 0 ? images.shown.map(i => [i, 0]) : s.channels.map((_, c) => [state.image, c])   // (image, channel) of each column
    const phaseOf = step => steps[step].phase
    const done = s => state.step >= s.last
    const doing = s => done(s) ? 'frozen' : phaseOf(state.step) === s.name ? 'learns' : 'waits'

    function redraw(s) {
      const now = `${state.image} ${s.of[state.step]}`, still = s.drawn?.split(' ')[0] === String(state.image)
      if (s.drawn === now) return   // two of three stages stand still
      s.drawn = now
      const columns = pairs(s), { w, h } = s, one = s.channels.length
      columns_of(s, columns.length)
      const at = s.of[state.step]*h
      columns.forEach(([i, c], k) => {
        const x0 = (i*one + c)*w, [low, high, far] = s.range[c]
        const teacher = (x, y) => s.t.out[y*s.t.width + x0 + x], student = (x, y) => s.s.out[(at + y)*s.s.width + x0 + x]
        const scaled = f => (x, y) => Math.round(clamp(255*(f(x, y) - low)/(high - low), 0, 255))
        const [a, b, d, e] = s.rows.map(row => row.children[k])
        if (!still) {
          shot(a, i)
          paint(b, w, h, scaled(teacher), tables.map)
        }
        paint(d, w, h, scaled(student), tables.map)
        paint(e, w, h, (x, y) => Math.round(clamp(127.5*(1 + (student(x, y) - teacher(x, y))/far), 0, 255)), tables.gap)
        for (const canvas of [b, d, e]) canvas.title = `${s.name}, channel ${s.channels[c]}, ${images.names[i]}`
      })
    }
    function told(s) {
      const what = doing(s), far = s.nmse[state.step]
      const number = far === null ? '' : `difference ${far.toFixed(2)}`
      s.block.className = `block ${what}` + (s === current() ? ' shown' : '')
      s.head.innerHTML = ''
      s.head.append(make('b', {}, s.name), ` ${what} `)
      if (what === 'frozen') s.head.insertAdjacentHTML('beforeend', lock)
      s.head.append(make('br'), number)
      s.block.setAttribute('aria-label', `${s.name} ${what}; ${number}. Rows: image, teacher, student, difference.`)
      s.button.innerHTML = ''
      s.button.append(s.name + ' ')
      if (what === 'frozen') s.button.insertAdjacentHTML('beforeend', lock)
      what === 'learns' ? s.button.setAttribute('aria-current', 'step') : s.button.removeAttribute('aria-current')
    }
    const current = () => stages.find(s => s.name === phaseOf(state.step)) ?? stages.at(state.step ? -1 : 0)
    function show() {
      for (const s of stages) { redraw(s); told(s) }
      if (head) phaseOf(state.step) === 'head' ? head.setAttribute('aria-current', 'step') : head.removeAttribute('aria-current')
      say.textContent = steps[state.step].say
      range.value = state.step
      range.setAttribute('aria-valuetext', steps[state.step].short)
      root.dataset.step = state.step
      const cursor = under.querySelector('.now')
      if (cursor) for (const end of ['x1', 'x2']) cursor.setAttribute(end, 100*film.curve.x[state.step])
      for (const b of pick.querySelectorAll('button')) b.setAttribute('aria-pressed', b.value === String(state.image))
      if (root.dataset.link !== undefined && root.dataset.on === 'ready') history.replaceState(null, '', `#step=${state.step}` + (state.image < 0 ? '' : `&image=${state.image}`))
    }
    function go(step) { state.step = clamp(step, 0, steps.length - 1); show() }
    function pause() { clearTimeout(state.playing); state.playing = 0; told_play() }
    function told_play() { play.textContent = state.playing ? '❚❚' : '▶'; play.setAttribute('aria-label', state.playing ? 'Pause' : 'Play') }
    function next() {
      const at_end = state.step === steps.length - 1
      go(at_end ? 0 : state.step + 1)
      const rest = state.step === steps.length - 1 ? 3000 : state.step === 0 ? 1500 : stages.some(s => s.last === state.step) ? 900 : 320
      state.playing = setTimeout(next, rest)
    }
    const run = () => { state.playing = setTimeout(next, 250); told_play() }
    play.onclick = () => state.playing ? pause() : run()
    range.oninput = () => { pause(); go(+range.value) }
    const jump = step => () => { pause(); go(step) }
    for (const s of stages) s.button.onclick = jump(s.first)
    if (head) head.onclick = jump(film.head.first)

    thumbs.forEach(shot)
    const link = root.dataset.link === undefined ? null : new URLSearchParams(location.hash.slice(1))
    if (link?.get('image') && images.names[+link.get('image')]) state.image = +link.get('image')
    go(link?.get('step') ? +link.get('step') || 0 : root.dataset.play === undefined ? +(root.dataset.at ?? steps.length - 1) : 0)
    told_play()
    root.dataset.on = 'ready'
    if (root.dataset.play !== undefined && !matchMedia('(prefers-reduced-motion: reduce)').matches) {
      const seen = new IntersectionObserver(([e]) => { if (e.isIntersecting) { seen.disconnect(); if (!state.playing && state.step === 0) run() } }, { threshold: .4 })
      const watch = () => setTimeout(() => seen.observe(blocks), 700)   // the page comes first
      document.readyState === 'complete' ? watch() : addEventListener('load', watch)
    }
  }
  for (const root of document.querySelectorAll('.sskd-film:not([data-on])')) { root.dataset.on = 'soon'; start(root) }
})()
