"""Small files in the formats of well-known sets."""
import numpy as np
from PIL import Image
from scipy.io import savemat
import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.data.images import embedded_fashion, vocab
from sskd_tutor.data.formats import cifar_sets

fashion = embedded_fashion('valid')

def picture(i, size=32): return Image.fromarray(fashion.x[i, 0].numpy()).convert('RGB').resize((size, size))

def record(i, label): return label + np.asarray(picture(i)).transpose(2, 0, 1).tobytes()

def write_cifar(folder, kind='cifar100', n=20, n_test=10):
    "Each label byte before the class is 255, which no class has"
    _, train, test, n_labels, names = cifar_sets[kind]
    folder.mkdir(parents=True, exist_ok=True)
    (folder/names).write_text('\n'.join(vocab) + '\n\n')
    start = 0
    for f, k in [*((f, n//len(train)) for f in train), (test, n_test)]:
        data = [record(i, bytes([255]*(n_labels - 1) + [int(fashion.y[i])])) for i in range(start, start + k)]
        (folder/f).write_bytes(b''.join(data))
        start += k
    return folder

def write_folders(folder, spans, ext='png', groups=False, names=vocab):
    for part, span in spans.items():
        for i in span:
            name = names[int(fashion.y[i])]
            group = 'shoes' if int(fashion.y[i]) in (5, 7, 9) else 'others'
            d = folder/part/(group if groups else '')/name
            d.mkdir(parents=True, exist_ok=True)
            picture(i).save(d/f'{name}_{i}.{ext}', format='png' if ext == 'png' else 'jpeg')
    return folder

wnids = [f'n{i:08d}' for i in (9, 3, 5, 1, 7, 2, 8, 4, 6, 10)]

numbers = {w: k for k, w in enumerate(wnids, 1)}  # the kit's order is not that of the names

def write_devkit(top):
    fields = 'ILSVRC2012_ID WNID words gloss num_children children wordnet_height num_train_images'.split()
    rows = [(k, w, 'a, b', '-', 0, [], 0, 1300) for w, k in numbers.items()]
    rows.append((11, 'n99999999', 'all', '-', 10, list(range(1, 11)), 1, 0))
    (top/'ILSVRC2012_devkit_t12/data').mkdir(parents=True)
    savemat(top/'ILSVRC2012_devkit_t12/data/meta.mat', dict(synsets=np.array(rows, [(f, 'O') for f in fields])))
    truth = ''.join(f'{numbers[wnids[int(fashion.y[i])]]}\n' for i in range(60, 80))
    (top/'ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt').write_text(truth)

def write_kaggle(top):
    def row(k, i): return f'ILSVRC2012_val_{k:08d},{wnids[int(fashion.y[i])]} 1 2 30 31 {wnids[0]} 3 4 20 20 '
    rows = [row(k, i) for k, i in enumerate(range(60, 80), 1)]
    (top/'LOC_val_solution.csv').write_text('\n'.join(['ImageId,PredictionString', *rows[::-1]]))  # Kaggle's is in no order

def write_imagenet(top, val='flat', below=''):
    write_folders(top/below, dict(train=range(60)), 'JPEG', names=wnids)
    if val == 'folders': return write_folders(top/below, dict(val=range(60, 80)), 'JPEG', names=wnids)
    (top/below/'val').mkdir()
    for k, i in enumerate(range(60, 80), 1): picture(i).save(top/below/f'val/ILSVRC2012_val_{k:08d}.JPEG', format='jpeg')
    dict(devkit=write_devkit, kaggle=write_kaggle).get(val, lambda top: None)(top)
    return top

def write_streets(folder, n=12):
    "Sky above, road below, in CamVid's format; four frames to test on"
    for name in ('images', 'labels'): (folder/name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        mask = np.zeros((36, 64), 'u1')
        mask[rng.integers(12, 24):] = 1
        Image.fromarray(np.array([[90, 150, 230], [70, 70, 70]], 'u1')[mask]).save(folder/f'images/{i:02d}.png')
        Image.fromarray(mask).save(folder/f'labels/{i:02d}_P.png')
    (folder/'codes.txt').write_text('Sky\nRoad\nVoid')
    (folder/'valid.txt').write_text('\n'.join(f'{i:02d}.png' for i in range(n - 4, n)))
    return folder

def write_lfw(home, n=14):
    "Persons of one gray each, four images of each, in LFW's layout; one person in each fold, and four in none"
    names = [f'Ada_{chr(65 + i)}' for i in range(n)]
    for i, name in enumerate(names):
        (home/'lfw_funneled'/name).mkdir(parents=True)
        for j in range(1, 5):
            noise = np.random.default_rng(j).integers(0, 25, (250, 250, 3))
            Image.fromarray((30 + 14*i + noise).astype('u1')).save(home/f'lfw_funneled/{name}/{name}_{j:04d}.jpg')
    lines = ['10\t20']
    for i in range(10):
        other = (i + 1) % 5 + 5*(i > 4)
        lines += [f'{names[i]}\t1\t2']*20 + [f'{names[i]}\t1\t{names[other]}\t3']*20
    for name in ('pairs.txt', 'pairsDevTrain.txt', 'pairsDevTest.txt'): (home/name).write_text('\n'.join(lines))
    return home
