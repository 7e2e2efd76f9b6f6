"""How sphinx makes pages of the notebooks that build.py has prepared."""
from latex2mathml.converter import convert
from docutils.nodes import SkipNode
from nbdev.config import get_config

longest_formula = 40   # characters of TeX; what is longer can be scrolled

cfg = get_config()
project, author, release = cfg.lib_name, cfg.author, cfg.version
html_title = cfg.lib_name
extensions = ['myst_nb']
smartquotes = False  # they would come into code too
nb_execution_mode = 'off'
nb_render_markdown_format = 'gfm'
nb_output_stderr = 'remove'
myst_enable_extensions = ['dollarmath', 'amsmath']
myst_heading_anchors = 4
suppress_warnings = ['myst.header', 'mystnb.unknown_mime_type']

html_theme = 'sphinx_book_theme'
html_static_path = ['_static']
html_css_files = ['custom.css', 'moments.css']
html_js_files = [('palette.js', {'defer': 'defer'}), ('moments.js', {'defer': 'defer'}),
                 ('figures.js', {'defer': 'defer'})]
html_favicon = '_static/icon.svg'
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_math_renderer = 'mathml'
html_context = dict(default_mode='auto')
html_theme_options = dict(
    logo=dict(text=cfg.lib_name, image_light='_static/icon.svg', image_dark='_static/icon.svg'),
    repository_url=cfg.git_url, repository_branch=cfg.branch, use_repository_button=True,
    use_download_button=False, use_fullscreen_button=False,
    navbar_persistent=[], show_toc_level=2, toc_title='On this page',
    footer_content_items=['extra-footer.html'], pygments_dark_style='github-dark',
    extra_footer=f'<p>{cfg.lib_name} {cfg.version}. Made from its notebooks by <code>make docs</code>.</p>')

def math(block):
    "Formulas as MathML, which browsers draw themselves: no script, no font from elsewhere"
    tag, display = ('div', 'block') if block else ('span', 'inline')
    def visit(self, node):
        tex = node.astext()
        look = 'formula long' if len(tex) > longest_formula else 'formula'
        self.body.append(f'<{tag} class="{look}">{convert(tex, display=display)}</{tag}>')
        raise SkipNode
    return visit, None

def setup(app): app.add_html_math_renderer('mathml', math(False), math(True))
