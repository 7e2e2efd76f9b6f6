// What the page's address asks for behind `#sskd?`, when it opens and whenever it changes.
function render({ model, el }) {
  const read = () => {
    if (!location.hash.startsWith('#sskd?')) return
    model.set('asked', location.hash.slice(1))
    model.save_changes()
  }
  el.style.display = 'none'
  read()
  addEventListener('hashchange', read)
  return () => removeEventListener('hashchange', read)
}

export default { render }
