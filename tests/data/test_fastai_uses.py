"""Every loader of ours is a fastai loader: predict, test_dl, show, interpret; before and after export."""
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from fastai.data.transforms import CategoryMap
from fastai.interpret import ClassificationInterpretation
from fastai.learner import load_learner
from PIL import Image
from torchvision.datasets import ImageFolder

from sskd_tutor.data.datasets import dataset_dls
from sskd_tutor.data.folders import folder_dls
from sskd_tutor.data.formats import stored_dls
from sskd_tutor.data.images import Images, embedded_fashion, vocab
from sskd_tutor.data.lists import by_parent, listed_dls
from sskd_tutor.data.loaders import as_vocab, fashion_dls
from helpers.pairs import new_learner, staged

matplotlib.use('agg')
fashion, classes = embedded_fashion('valid'), ['trouser', 'bag', 'a shirt']
numbers = 1, 8, 6

def photo(i, size=20): return Image.fromarray(fashion.x[i, 0].numpy()).convert('RGB').resize((size, size))

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    top = tmp_path_factory.mktemp('photos')
    for name, c in zip(classes, numbers):
        for part in ('', 'train', 'valid'):
            home = top/('split' if part else 'plain')/part/name
            home.mkdir(parents=True)
            for k, i in enumerate((fashion.y == c).nonzero()[:8, 0].tolist()): photo(i).save(home/f'{k}.png')
    return top

def stored():
    keep = torch.isin(fashion.y, torch.tensor(numbers))
    x, y = fashion.x[keep].expand(-1, 3, -1, -1), fashion.y[keep]
    y = torch.tensor([numbers.index(int(c)) for c in y])
    images = Images(x.contiguous(), y, torch.arange(len(y)))
    return stored_dls(images, images, classes, bs=8, device='cpu')

def kinds(folder):
    common = dict(size=16, bs=8, views=None, device='cpu')
    plain, split = folder/'plain', folder/'split'
    def images(part): return ImageFolder(split/part)
    return dict(
        folder=folder_dls(plain, **common),
        listed=listed_dls(split, by_parent(split, 'train'), by_parent(split, 'valid'), **common),
        dataset=dataset_dls(images('train'), images('valid'), **common),
        fashion=fashion_dls(n=40, bs=8, device='cpu'), stored=stored())

names = ['folder', 'listed', 'dataset', 'fashion', 'stored']

@pytest.fixture(scope='module')
def learners(folder):
    torch.manual_seed(0)
    def learner(dls): return new_learner(staged(4, c_in=dls.one_batch()[0].shape[1], n_out=dls.c), dls)
    return {name: learner(dls) for name, dls in kinds(folder).items()}

@pytest.mark.parametrize('name', names)
def test_vocab(learners, name):
    "In the order of the labels, as fastai keeps it"
    dls = learners[name].dls
    assert isinstance(dls.vocab, CategoryMap)
    want = vocab if name == 'fashion' else classes if name == 'stored' else sorted(classes)
    assert list(dls.vocab) == want and [dls.vocab.o2i[c] for c in want] == list(range(len(want))) and dls.c == len(want)

def test_a_name_that_comes_twice_keeps_its_places():
    assert list(as_vocab(['crane', 'maillot', 'crane', 'bag'])) == ['crane', 'maillot', 'crane', 'bag']

def asked(folder):
    path = folder/'plain'/'bag'/'3.png'
    image = Image.open(path)
    return dict(path=path, text=str(path), image=image, bytes=path.read_bytes(), array=np.asarray(image))

@pytest.mark.parametrize('name', names)
def test_predict(learners, folder, name):
    "The same answer, however the image is given"
    learn, answers = learners[name], []
    for item in asked(folder).values():
        said, number, probs = learn.predict(item)
        assert said == learn.dls.vocab[int(number)] and probs.sum() == pytest.approx(1, abs=1e-4)
        answers.append(probs)
    assert all(torch.equal(a, answers[0]) for a in answers)
    x = learn.dls.valid_ds[2][0]
    assert learn.predict(x)[2].shape == answers[0].shape

def test_the_prediction_is_that_of_the_loader(learners):
    learn = learners['folder']
    data = learn.dls.valid_ds
    one = learn.predict(data.folder/data.images.paths[4])[2]
    assert torch.allclose(one, learn.get_preds()[0][4], atol=1e-6)

@pytest.mark.parametrize('name', names)
def test_a_test_set(learners, folder, name):
    learn = learners[name]
    paths = sorted((folder/'plain').glob('*/*.png'))
    dl = learn.dls.test_dl(paths)
    assert len(dl.one_batch()) == 1 and dl.one_batch()[0].shape[1:] == learn.dls.one_batch()[0].shape[1:]
    preds, targs = learn.get_preds(dl=dl)
    assert len(preds) == len(paths) and targs is None
    assert torch.allclose(preds[5], learn.predict(paths[5])[2], atol=1e-5)

def titles_of(show):
    "What stands above the images that a call draws, line by line"
    plt.close('all')
    show(max_n=2)
    return [axis.get_title().split('\n') for axis in plt.gcf().axes if axis.images]

@pytest.mark.parametrize('name', names)
def test_shown(learners, name):
    "Two images, each under its class; of results the answer, too"
    learn = learners[name]
    for show, lines in ((learn.dls.show_batch, 1), (learn.dls.valid.show_batch, 1), (learn.show_results, 2)):
        titles = titles_of(show)
        assert [len(title) for title in titles] == [lines]*2
        assert {word for title in titles for word in title} <= set(learn.dls.vocab)

@pytest.mark.parametrize('name', names)
def test_interpretation(learners, name):
    learn = learners[name]
    n = len(learn.dls.valid_ds)
    found = ClassificationInterpretation.from_learner(learn)
    assert list(found.vocab) == list(learn.dls.vocab)
    matrix = found.confusion_matrix()
    assert matrix.shape == (learn.dls.c, learn.dls.c) and matrix.sum() == n
    found.plot_confusion_matrix()
    found.plot_top_losses(2)
    found.print_classification_report()
    losses, which = found.top_losses(3)
    inps, preds, targs, decoded, again = found[which]
    assert torch.equal(targs.long(), learn.dls.valid_ds.images.y[which]) and torch.equal(again, losses)

@pytest.mark.parametrize('name', ['folder', 'fashion', 'dataset'])
def test_exported(learners, folder, name, tmp_path):
    learn, path = learners[name], folder/'plain'/'bag'/'3.png'
    want = learn.predict(path)
    learn.export(tmp_path/'learner.pkl')
    again = load_learner(tmp_path/'learner.pkl')
    again.remove_cb(again.progress) if hasattr(again, 'progress') else None
    got = again.predict(path)
    assert got[0] == want[0] and torch.allclose(got[2], want[2])

def test_what_cannot_be_asked(learners, tmp_path):
    learn = learners['folder']
    (tmp_path/'a.png').write_text('no image')
    with pytest.raises(ValueError, match='a.png cannot be read'): learn.predict(tmp_path/'a.png')
    with pytest.raises(FileNotFoundError, match='nowhere.png'): learn.predict(tmp_path/'nowhere.png')
    with pytest.raises(TypeError, match='a float32 tensor; expected uint8'): learn.predict(torch.rand(3, 16, 16))
    with pytest.raises(TypeError, match='a int; expected a path'): learn.predict(3)
    Image.fromarray(np.full((9, 9), 40_000, 'u2')).save(tmp_path/'deep.png')
    with pytest.raises(ValueError, match='expected 8 bits a channel'): learn.predict(tmp_path/'deep.png')
