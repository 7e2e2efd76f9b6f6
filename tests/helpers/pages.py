"""A folder of pages on loopback, compressed and cached as GitHub Pages does it."""
import gzip, socket, threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

packed = '.html', '.css', '.js', '.svg', '.json', '.md', '.txt'

class AsPages(SimpleHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.is_dir(): path /= 'index.html'
        if not path.is_file(): return self.send_error(404)
        body = path.read_bytes()
        self.send_response(200)
        self.send_header('Content-Type', self.guess_type(str(path)))
        self.send_header('Cache-Control', 'max-age=600')
        if path.suffix in packed and 'gzip' in self.headers.get('Accept-Encoding', ''):
            body = gzip.compress(body, 6)
            self.send_header('Content-Encoding', 'gzip')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

def free_port():
    "A port of this machine that nobody uses now"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

@contextmanager
def serving(folder, port=0):
    "The address under which the folder's files can be had"
    server = ThreadingHTTPServer(('127.0.0.1', port), partial(AsPages, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()

if __name__ == '__main__':
    import sys
    with serving(sys.argv[1], int(sys.argv[2])): threading.Event().wait()
