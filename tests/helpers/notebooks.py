"Cells of a notebook in a process of their own"
import multiprocessing, os

def exit_code(target, *args, log, timeout):
    "Of `target(*args)` in a fork of a process that has imported fastai and nothing of ours; its words go to `log`. None: not done in time"
    server = multiprocessing.get_context('forkserver')
    server.set_forkserver_preload(['fastai.vision.all', 'nbdev.test'])
    p = server.Process(target=_logged, args=(target, args, log))
    p.start()
    p.join(timeout)
    if p.is_alive(): p.kill()
    return p.exitcode

def _logged(target, args, log):
    out = os.open(log, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2): os.dup2(out, stream)
    target(*args)
