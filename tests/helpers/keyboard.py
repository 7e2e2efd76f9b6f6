"""A walk through a page with nothing but the Tab key."""
here = """() => { const e = document.activeElement, box = e.getBoundingClientRect(), look = getComputedStyle(e)
    const name = e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent.trim() || e.title || e.alt || ''
    const place = [...document.querySelectorAll('*')].indexOf(e)
    return { tag: e.tagName.toLowerCase(), type: e.type ?? '', kind: e.className?.toString() ?? '', name: name.slice(0, 60), place,
        inside: ['.sskd-film', '.moments', '.swap', '.card', 'details', '.chapters', '.pick', '.sskd-net', '.sskd-wall'].filter(s => e.closest(s)),
        seen: box.width > 0 && box.height > 0, ring: look.outlineStyle !== 'none' || look.boxShadow !== 'none' } }"""

def walk(page, most=400):
    "Each element that Tab comes to, in order, until it leaves the page or comes back"
    found = []
    for _ in range(most):
        page.keyboard.press('Tab')
        now = page.evaluate(here)
        if now['tag'] == 'body' or (found and now['place'] == found[0]['place']): break
        found.append(now)
    return found

def of(found, where, tag=None): return [e for e in found if where in e['inside'] and tag in (None, e['tag'])]

def focus_next(page, where, tag, most=400):
    "Press Tab until an element of this kind has the keyboard"
    for _ in range(most):
        page.keyboard.press('Tab')
        now = page.evaluate(here)
        if where in now['inside'] and now['tag'] == tag: return now
    raise AssertionError(f'Tab does not come to a {tag} in {where}')
