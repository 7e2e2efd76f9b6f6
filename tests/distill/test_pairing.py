"""Any teacher with any student: pairs, images of their own, one step of each stage, and the student leaves in its own class."""
import copy, pickle
from functools import partial
from itertools import combinations, permutations
from math import log2

import pandas as pd
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from fastai.vision.all import (Callback, CategoryBlock, DataBlock, DataLoaders, ImageBlock, ImageDataLoaders, IntToFloatTensor,
                               Normalize, RandomSplitter, Resize, TensorImage, accuracy, accuracy_multi, aug_transforms,
                               get_image_files, imagenet_stats, parent_label)
from PIL import Image
from torch import nn

import sskd_tutor.distill.fit  # noqa: F401, patches Learner
from sskd_tutor.core.events import RunCallback
from sskd_tutor.distill.adapters import Prefixed, make_adapter
from sskd_tutor.nets.cut import as_stages
from sskd_tutor.data.loaders import DeviceDL, ImageSet, fashion_dls
from sskd_tutor.data.images import Images
from sskd_tutor.runs.export import export_student
from sskd_tutor.nets.converter import ImageConverter, expects, make_converter
from sskd_tutor.distill.matching import match_stages, merged
from sskd_tutor.distill.pairing import Pairing, pair_stages
from sskd_tutor.viz.pairing import PairingEditor, pairing_figure
from sskd_tutor.nets.weights import load_weights
from sskd_tutor.core.state import tensors_sha256
from sskd_tutor.nets.small import tutorial_resnet
from test_cut import Listed, Own, TiedStages, fast as fast_nets, made, noise_dls, quantized, slow as slow_nets, state as modes, tail
from helpers.pairs import moved, new_learner, small_dls, snapshot, staged

torch.set_num_threads(1)
like = dict(stats=([.5], [.25]))  # what the noise of the loaders is said to be

# --- the matrix: (teacher, student)

pairs = [('torchvision:resnet18', 'torchvision:mobilenet_v3_small'), ('timm:convnext_atto', 'timm:resnet10t'),
         ('timm:vit_tiny_patch16_224', 'timm:mobilenetv4_conv_small_050'), ('timm:regnety_002', 'timm:vit_tiny_patch16_224'),
         ('xresnet18', 'torchvision:shufflenet_v2_x0_5'), ('Isotropic', 'Own'), ('Own', 'timm:regnety_002'),
         ('torchvision:squeezenet1_1', 'Own'), ('timm:pvt_v2_b0', 'nested'), ('torchvision:mobilenet_v3_small', 'xresnet18'),
         ('timm:swin_tiny_patch4_window7_224', 'torchvision:resnet18'), ('nested', 'Isotropic')]
every = [n for n in [*fast_nets, *slow_nets] if n != 'unet_encoder']  # which answers with a map
slow_pairs = [(a, b) for a, b in zip(every[::2], every[1::2] + every[:1])]
matrix = pytest.mark.parametrize('names', [*pairs, *(pytest.param(p, marks=pytest.mark.slow) for p in slow_pairs)], ids='-'.join)

def test_the_matrix_is_large(): assert len(pairs) == 12 and len({n for p in slow_pairs for n in p}) >= 40

class Invariants(RunCallback):
    "While a stage learns nothing else moves, statistics included"
    def __init__(self, *rest): self.rest, self.seen = rest, []
    def skip_phase(self, learn, run): self.before, self.others = snapshot(run.student), snapshot(*self.rest)
    def end_phase(self, learn, run):
        name, after = learn.sskd_phase, moved(self.before, run.student)
        assert all(n.startswith('head.' if name == 'head' else f'stages.{name}.') for n in after), (name, after)
        own = [n for n, p in run.student.named_parameters() if f'0.{n}' in self.before and n in after]
        assert own, f"{name} did not learn"
        assert not moved(self.others, *self.rest)
        self.seen.append(name)

@matrix
def test_any_two(names, tmp_path):
    (teacher, xt, _), (student, x, _) = made(names[0]), made(names[1])
    before, how, rng = snapshot(teacher, student), (modes(teacher), modes(student)), torch.get_rng_state()
    keys = list(student.state_dict())
    dls = noise_dls(x)
    pairing = pair_stages(teacher, student, dls, teacher_input=dict(size=xt.shape[-1]), **like)
    assert not moved(before, teacher, student) and (modes(teacher), modes(student)) == how
    assert torch.equal(torch.get_rng_state(), rng)
    n, m = (len(as_stages(net, i).stages) for net, i in ((teacher, xt), (student, x)))
    assert len(pairing.ends) == len(pairing.teacher.stages) == len(pairing.student.stages) == min(n, m)
    hints, own, watch = snapshot(pairing.teacher), snapshot(teacher), Invariants(pairing.teacher)
    learn = new_learner(pairing.student, dls)
    run = learn.fit_sskd(pairing.teacher, epochs=1, head_epochs=1, adapter=pairing.adapter, cbs=watch, valid_every=0)
    assert watch.seen == [*pairing.student.stage_names, 'head'] == list(run.stages.index)
    assert not moved(hints, pairing.teacher) and not moved(own, teacher)
    # out again: the class it was, the keys it had, the answers of the stages
    fresh = made(names[1])[0]
    assert list(student.state_dict()) == keys == list(fresh.state_dict())
    export_student(student, x, tmp_path/'out', ['safetensors'])
    load_weights(fresh, tmp_path/'out/student.safetensors')
    with torch.no_grad(): assert torch.equal(fresh.eval()(x), pairing.student.eval()(x))

def test_teeth():
    "The watch does notice what it watches for"
    teacher, student = staged(8), staged(4)
    watch = Invariants(teacher)
    class Careless(Callback):
        order = 70
        def after_step(self): student.stages['stage1'][1].running_mean += 1.
    with pytest.raises(AssertionError, match='stage2'):
        new_learner(student, small_dls()).fit_sskd(teacher, epochs=1, head_epochs=1, cbs=[watch, Careless()], valid_every=0)

# --- which with which

@pytest.mark.parametrize('s, t', [([2, 4, 8, 16, 32], [4, 8, 16, 32]), ([4, 8, 16, 32], [1, 2, 4, 8, 16]),
                                  ([2.1, 4.3, 9.1], [2, 4, 8, 16, 32]),
                                  ([1, 2, 4], [16]*4), ([8, 16], [4, 8]), ([4], [2, 4, 8]), ([None, None], [2, 4, 8]),
                                  ([16]*7, [16]*3), ([3, None, 7, 9], [2.9, 3, None, 6.5, 7, 31])])
def test_matching_is_the_best_of_all(s, t):
    "Against all pairings there are"
    def cost(pairs):
        far = sum(abs(log2(t[j]/s[i])) for i, j in pairs if s[i] and t[j])
        return round(far, 6), round(sum(abs((i + 1)/len(s) - (j + 1)/len(t)) for i, j in pairs), 6)
    k = min(len(s), len(t))
    ways = [list(zip(a, b)) for a in combinations(range(len(s)), k) for b in permutations(range(len(t)), k)
            if list(b) == sorted(b) and a[-1] == len(s) - 1 and b[-1] == len(t) - 1]
    found = match_stages(s, t)
    assert found in ways and cost(found) == min(map(cost, ways))

def test_many_stages_are_matched_at_once():
    "Of 60 stages, 30 can be chosen in 6e16 ways"
    assert match_stages([16]*60, [16]*30) == [(2*i + 1, i) for i in range(30)]

def test_joined_stages_share_everything():
    net = staged(4)
    net.stages['stage2'].eval()
    joined, x = merged(net, ['stage2', 'stage3']), torch.rand(2, 1, 10, 10)
    assert joined.stage_names == ['stage2', 'stage3'] and joined.head is net.head
    assert {id(p) for p in joined.parameters()} == {id(p) for p in net.parameters()} and not joined.stages['stage2'][1].training
    assert torch.equal(joined.eval()(x), net.eval()(x))
    assert torch.equal(joined.forward_to(x, 'stage2'), net.forward_to(x, 'stage2'))
    for ends in ([], ['stage1'], ['stage3', 'stage2'], ['stage2', 'stage2', 'stage3']):
        with pytest.raises(ValueError, match="with 'stage3' as the last"): merged(net, ends)

@pytest.mark.parametrize('ends, says', [
    (dict(stage1='stage9', stage3='stage3'), "ends has 'stage9', which is not a stage of the teacher; did you mean"),
    (dict(stge1='stage1', stage3='stage3'), "not a stage of the student; did you mean 'stage1'"),
    (dict(stage1='stage2', stage2='stage1', stage3='stage3'), "cross at the student's 'stage1'"),
    (dict(stage1='stage2', stage2='stage2', stage3='stage3'), 'cross'),
    (dict(stage1='stage1', stage2='stage2'), r"lacks the last pair, \{'stage3': 'stage3'\}"), ({}, 'lacks the last pair')])
def test_bad_ends(ends, says):
    pairing = pair_stages(staged(8), staged(4), (1, 10, 10))
    with pytest.raises(ValueError, match=says): pairing.edited(ends)
    with pytest.raises(ValueError, match=says): pair_stages(staged(8), staged(4), (1, 10, 10), ends=ends)
    with pytest.raises(TypeError, match='expected a dict'): pair_stages(staged(8), staged(4), (1, 10, 10), ends=['stage1'])

def test_nothing_to_do_gives_the_networks_themselves():
    teacher, student = staged(8), staged(4)
    pairing = pair_stages(teacher, student, small_dls())
    assert pairing.teacher is teacher and pairing.student is student and pairing.adapter == 'conv' and pairing.converter is None

def test_a_pairing_by_hand_trains():
    teacher, student = staged(8), staged(4)
    pairing = pair_stages(teacher, student, small_dls(), ends=dict(stage2='stage1', stage3='stage3'), adapter='conv_bn')
    assert pairing.table.student.tolist() == ['stage1 + stage2', 'stage3'] and 'batch norm' in pairing.table.adapter['stage2']
    run = new_learner(pairing.student).fit_sskd(pairing.teacher, epochs=1, head_epochs=1, adapter=pairing.adapter)
    assert list(run.stages.index) == ['stage2', 'stage3', 'head'] and (run.stages.nmse[:-1] < 10).all()

# --- each is fed its own

imagenet, half = ([.485, .456, .406], [.229, .224, .225]), ([.5]*3, [.5]*3)

def normalized(x, stats): return (x - torch.tensor(stats[0]).view(-1, 1, 1))/torch.tensor(stats[1]).view(-1, 1, 1)

def photo_dls(x, stats=None, bs=4):
    "Bytes as loaders give them, normalized at the end as fastai does it"
    tfms = [IntToFloatTensor(), *([Normalize.from_stats(*stats, cuda=False)] if stats else [])]
    class Photos(ImageSet): image_type = TensorImage
    data = Photos(Images(x, torch.zeros(len(x), dtype=torch.long), torch.arange(len(x))), 0, list('ab'))
    return DataLoaders(*[DeviceDL(data, bs=bs, after_batch=tfms, device=torch.device('cpu')) for _ in range(2)], device='cpu')

pixels = torch.randint(256, (8, 3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

@pytest.mark.parametrize('channels', [3, 1])
@pytest.mark.parametrize('stats', [imagenet, None], ids=['Normalize', 'none'])
def test_fed_as_by_hand(channels, stats):
    "The teacher's taps are those of images that were prepared for it from the beginning"
    conv = nn.Conv2d(channels, 8, 3, 2, 1)
    teacher = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), tail(8))
    wants = dict(size=(56, 40), mean=half[0][:channels], std=half[1][:channels])
    dls = photo_dls(pixels, stats)
    pairing = pair_stages(teacher, Own(), dls, teacher_input=wants)
    x = dls.valid.one_batch()[0].as_subclass(torch.Tensor)
    plain = pixels[:len(x)].float()/255
    by_hand = F.interpolate(plain if channels == 3 else plain.mean(1, keepdim=True), (56, 40), mode='bilinear', antialias=True)
    by_hand = normalized(by_hand, (wants['mean'], wants['std']))
    with torch.no_grad(): got, want = pairing.teacher.eval()(x), teacher.eval()(by_hand)
    assert torch.allclose(got, want, atol=1e-5)
    assert not torch.allclose(got, teacher(F.interpolate(x, (56, 40))[:, :channels]), atol=1e-3)
    assert f'{channels}x56x40' in pairing.text()

def test_gray_images_for_a_color_teacher():
    dls = fashion_dls(n=100, bs=10, device='cpu')
    teacher = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), tail(8)).eval()
    pairing, x = pair_stages(teacher, tutorial_resnet(width=4, blocks=1), dls), dls.valid.one_batch()[0].as_subclass(torch.Tensor)
    with torch.no_grad(): assert torch.equal(pairing.teacher(x), teacher(x.expand(-1, 3, -1, -1)))

def test_what_networks_say():
    assert expects(timm.create_model('inception_next_atto'))['size'] == (224, 224)
    assert expects(timm.create_model('vit_tiny_patch16_224', img_size=96))['size'] == (96, 96)
    assert expects(torchvision.models.vit_b_32(image_size=64))['size'] == 64 and expects(staged(4)) == dict(channels=1)
    net = timm.create_model('mobilenetv4_conv_small_050')
    x = torch.rand(2, 3, 64, 64)
    converter = make_converter(x, expects(net), half)
    cfg = net.pretrained_cfg
    large = F.interpolate(x*.5 + .5, cfg['input_size'][1:], mode='bilinear', antialias=True)
    by_hand = normalized(large, (cfg['mean'], cfg['std']))
    assert torch.allclose(converter(x), by_hand, atol=1e-5)

def test_weights_of_torchvision_say_it():
    weights = torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1
    x = torch.rand(2, 3, 64, 64)
    pairing = pair_stages(torchvision.models.mobilenet_v3_small(num_classes=4), Own(), x, teacher_input=weights)
    preset = weights.transforms()
    assert pairing.converter.size == (224, 224) and pairing.converter.mean.flatten().tolist() == pytest.approx(preset.mean)
    small = pair_stages(torchvision.models.mobilenet_v3_small(num_classes=4), Own(), x, teacher_input=preset)
    assert small.text() == pairing.text()
    assert pair_stages(torchvision.models.mobilenet_v3_small(num_classes=4), Own(), x, teacher_input=False).converter is None

def test_converters_differ_where_their_images_do():
    "What remembers features must notice another converter: it is part of the weights and of the text of the first stage"
    converters = [ImageConverter((8, 8), 3), ImageConverter((9, 9), 3), ImageConverter((8, 8), 3, ([.5]*3, [1.]*3)), ImageConverter((8, 8), 3, (0, 1), ([.5]*3, [1.]*3))]
    assert len({(repr(f), tensors_sha256(f)) for f in converters}) == 4 and len({tensors_sha256(f) for f in converters}) >= 3
    assert not [*converters[0].parameters()]
    assert torch.equal(copy.deepcopy(converters[2])(pixels/255), pickle.loads(pickle.dumps(converters[2]))(pixels/255))

@pytest.mark.parametrize('given, says', [
    (dict(sise=3), "did you mean 'size'"), (dict(mean=.5), 'one of mean and std'), (dict(mean=.5, std=0.), 'expected positive'),
    (dict(mean=[.5, .5], std=[1., 1.]), '2 means or deviations for 3 channels'),
    (dict(channels=4), 'the teacher takes 4 channels')])
def test_bad_teacher_input(given, says):
    teacher = torchvision.models.resnet18(num_classes=4)
    with pytest.raises(ValueError, match=says): pair_stages(teacher, Own(), torch.rand(2, 3, 64, 64), teacher_input=given)

def test_a_normalisation_that_nobody_tells():
    teacher = timm.create_model('mobilenetv4_conv_small_050', num_classes=10)
    noise = noise_dls(torch.randn(2, 3, 64, 64))
    with pytest.raises(ValueError, match=r'run from -\d.* pass stats='): pair_stages(teacher, Own(), noise)
    with pytest.raises(ValueError, match='pass stats='): pair_stages(teacher, Own(), torch.randn(2, 3, 64, 64))
    assert pair_stages(teacher, Own(), noise, teacher_input=False).converter is None

# --- adapters

@pytest.mark.parametrize('tap, hint', [((4, 7, 7), (6, 5, 5)), ((4, 5, 5), (6, 7, 7)), ((4, 9, 4), (6, 5, 8)),
                                       ((4, 14, 14), (6, 7, 7)), ((4, 3, 3), (4, 3, 3))])
def test_any_sizes(tap, hint):
    x = torch.randn(2, *tap)
    both = [min(a, b) for a, b in zip(tap[1:], hint[1:])]
    adapter = make_adapter(tap, hint)
    by_hand = F.interpolate(F.adaptive_avg_pool2d(x, both), hint[1:], mode='bilinear', align_corners=False) if tap != hint else x
    assert torch.allclose(adapter(x), adapter.conv(by_hand) if tap != hint else x, atol=1e-6) and adapter(x).shape[1:] == hint

@pytest.mark.parametrize('prefix', [(0, 6), (6, 0), (1, 6), (6, 6)])
@pytest.mark.parametrize('kind', ['conv', 'conv_bn'])
def test_tokens(prefix, kind):
    "No token ever mixes with the image: the image's part is that of the image alone"
    rows = [-(-n//4) for n in prefix]
    tap, hint = (8, rows[0] + 4, 4), (12, rows[1] + 4, 4)
    adapter, x = make_adapter(tap, hint, kind, prefix).eval(), torch.randn(2, *tap)
    assert adapter(x).shape == (2, *hint)
    if prefix == (6, 6): return
    assert isinstance(adapter, Prefixed)
    other = x.clone()
    other[:, :, :rows[0]] += 1
    assert torch.equal(adapter(x), adapter(other)) and torch.equal(adapter(x)[:, :, rows[1]:], adapter.image(x[:, :, rows[0]:]))

def test_prefix_tokens_are_found():
    pairing = pair_stages(made('Isotropic')[0], Own(), (3, 64, 64))
    kinds = {s: a.keywords for s, a in pairing.adapter.items()}
    assert kinds == {s: dict(kind='conv', prefix=(0, 6)) for s in ('stage1', 'stage2')}
    assert 'prefix tokens' in pairing.table.adapter['stage1']
    back = pair_stages(Own(), made('Isotropic')[0], (3, 64, 64))
    assert all('prefix tokens dropped' in a for a in back.table.adapter)
    assert back.edited(back.ends).adapter.keys() == set(back.ends)

def test_the_default_adapter_works_too():
    "`learn.fit_sskd(pairing.teacher)`, without another word"
    student = made('torchvision:mobilenet_v3_small')[0]
    x = torch.randn(2, 3, 64, 64)
    pairing = pair_stages(made('timm:vit_tiny_patch16_224')[0], student, noise_dls(x), **like)
    run = new_learner(pairing.student, noise_dls(x)).fit_sskd(pairing.teacher, epochs=1, head_epochs=1, valid_every=0)
    assert len(run.stages) == 5

# --- tried out, saved, read

def test_trying_out_changes_nothing():
    torch.manual_seed(0)
    dls = small_dls()
    teacher, student = staged(8, c_in=3).train(), staged(4).train()
    state = tensors_sha256(teacher), tensors_sha256(student), modes(teacher), modes(student)
    first = [x.sum() for x, _ in dls.train]
    torch.manual_seed(0)
    dls = small_dls()
    torch.manual_seed(1)
    rng = torch.get_rng_state()
    pairing = pair_stages(teacher, student, dls)
    table = pairing.try_out()
    assert torch.equal(torch.get_rng_state(), rng) and [x.sum() for x, _ in dls.train] == first
    assert (tensors_sha256(teacher), tensors_sha256(student), modes(teacher), modes(student)) == state
    assert table.tap.tolist() == [(4, 10, 10), (8, 5, 5), (16, 3, 3)] and (table.nmse > 0).all()

def test_broken_weights_are_found():
    teacher = staged(8)
    with torch.no_grad(): teacher.stages['stage2'][0].weight.fill_(float('nan'))
    says = "the teacher's stage2 gives values that are NaN"
    with pytest.raises(ValueError, match=says): pair_stages(teacher, staged(4), (1, 10, 10))

def test_a_saved_pairing(tmp_path):
    teacher, student = made('timm:convnext_atto')[0], made('torchvision:mobilenet_v3_small')[0]
    mine = dict(zip(as_stages(student, (3, 64, 64)).stage_names[1::3], ['stage1', 'stage4']))
    x, wants = torch.rand(2, 3, 64, 64), dict(size=96, mean=half[0], std=half[1])
    pairing = pair_stages(teacher, student, x, ends=mine, teacher_input=wants)
    pairing.save(tmp_path/'pairing.json')
    before = (tmp_path/'pairing.json').read_bytes()
    with pytest.raises(FileExistsError, match='overwrite=True'): pairing.save(tmp_path/'pairing.json')
    assert (tmp_path/'pairing.json').read_bytes() == before
    again = pair_stages(teacher, student, torch.rand(2, 3, 64, 64), ends=Pairing.load(tmp_path/'pairing.json'))
    assert again.text() == pairing.text() and again.ends == mine and again.converter.size == (96, 96)
    pairing.edited(again.ends).save(tmp_path/'pairing.json', overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == {'pairing.json'}
    saved = Pairing.load(tmp_path/'pairing.json')
    with pytest.raises(ValueError, match='the pairing is for a teacher'): pair_stages(staged(4, c_in=3), student, x, ends=saved)

@pytest.mark.parametrize('text, says', [('{"a"', 'is damaged'), ('{}', 'is not a pairing'), ('[]', 'is not a pairing'),
                                        ('{"format": 99, "ends": {}, "stages": {}, "teacher_input": null}', 'reads up to')])
def test_bad_files(text, says, tmp_path):
    (tmp_path/'p.json').write_text(text)
    with pytest.raises(ValueError, match=says): Pairing.load(tmp_path/'p.json')
    with pytest.raises(FileNotFoundError, match='no pairing at'): Pairing.load(tmp_path/'none.json')

# --- the learner's loaders, as fastai makes them

def from_block(table, folder, **kwargs):
    return DataBlock((ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label, item_tfms=Resize(40),
                     splitter=RandomSplitter(seed=0), batch_tfms=[*aug_transforms(size=32), Normalize.from_stats(*imagenet_stats)]
                     ).dataloaders(folder, bs=4, device='cpu', **kwargs)

def from_table(table, folder, **kwargs):
    return ImageDataLoaders.from_df(table, folder, valid_col='held', item_tfms=Resize(32), bs=4, device='cpu', **kwargs)

loaders = dict(block=partial(from_block, num_workers=2), table=partial(from_table, num_workers=0),
               multi=partial(from_table, label_col='both', label_delim=' ', num_workers=0),
               folder=lambda table, folder: ImageDataLoaders.from_folder(folder, valid_pct=.25, item_tfms=Resize(32), bs=4,
                                                                         device='cpu', num_workers=0))

@pytest.mark.parametrize('kind', loaders)
def test_fastai_loaders_of_any_kind(kind, tmp_path):
    "Unchanged: what teaches is what the loader gives, and its own loss and labels are the head's"
    kinds = dict(a='a', b='a b', c='c')
    rows = [dict(file=f'{k}/{i}.png', kind=k, both=b, held=i > 5) for k, b in kinds.items() for i in range(8)]
    for i, row in enumerate(rows):
        (tmp_path/row['kind']).mkdir(exist_ok=True)
        Image.fromarray(pixels[i % 8].permute(1, 2, 0).numpy()).save(tmp_path/row['file'])
    dls, student, teacher = loaders[kind](pd.DataFrame(rows), tmp_path), Own(), Own(12)
    student.fc = nn.Linear(16, dls.c)
    metric = accuracy_multi if kind == 'multi' else accuracy
    pairing = pair_stages(teacher, student, dls)
    before, hints = snapshot(student), snapshot(teacher)
    learn = new_learner(pairing.student, dls, loss_func=None, metrics=metric)
    run = learn.fit_sskd(pairing.teacher, 1, 1, adapter=pairing.adapter)
    after = moved(before, student)
    assert {'a.weight', 'c.weight', 'fc.weight', 'norm.running_mean'} <= after and not moved(hints, teacher)
    assert dls.c == 3 and learn.loss_func is dls.loss_func
    assert 0 <= run.history[run.history.measure == metric.__name__].value.item() <= 1

# --- figure and editor

def test_picture_is_a_function_of_the_table():
    teacher, student = made('timm:convnext_atto')[0], made('torchvision:mobilenet_v3_small')[0]
    pairing = pair_stages(teacher, student, (3, 64, 64), teacher_input=dict(size=64))
    light, dark = (pairing_figure(pairing.table, pairing.names, theme=th) for th in ('light', 'dark'))
    assert light == pairing.figure() and light.to_dict()['data'] == dark.to_dict()['data']
    assert light.layout.paper_bgcolor != dark.layout.paper_bgcolor
    shown = ' '.join(str(a.text).replace('<br>', ' ') for a in light.layout.annotations)
    assert all(n in shown for n in [*pairing.staged['student'].stage_names, *pairing.table.adapter])
    links = [t for t in light.data if t.name in pairing.table.index]
    assert len(links) == len(pairing.ends)
    with pytest.raises(ValueError, match='theme'): pairing_figure(pairing.table, theme='pink')

def test_words_on_a_link_stay_on_it():
    "An adapter may take forty letters and more; a stage's name stands at each end"
    teacher, student = made('timm:convnext_atto')[0], made('torchvision:mobilenet_v3_small')[0]
    table = pair_stages(teacher, student, (3, 64, 64), teacher_input=dict(size=64)).table
    table['adapter'] = 'pool to 4x4, 1x1 conv 16 to 64, 1 prefix token from the mean'
    said = [a for a in pairing_figure(table).layout.annotations if 'pool to 4x4' in a.text]
    assert len(said) == len(table) and all(len(line) <= 40 for a in said for line in a.text.split('<br>'))
    assert all(a.yanchor == 'bottom' and a.yshift > 0 for a in said), 'above the link, however many lines'

def test_editor():
    teacher, student = staged(8), staged(4)
    editor = PairingEditor(pair_stages(teacher, student, (1, 10, 10)))
    first = editor.pairing
    assert editor.ends == dict(stage1='stage1', stage2='stage2', stage3='stage3') and '3 pairs' in editor.says.value
    editor.choose('stage2', None)
    assert editor.pairing.ends == dict(stage1='stage1', stage3='stage3')
    assert editor.pairing.table.student['stage3'] == 'stage2 + stage3'
    good = editor.pairing
    editor.choose('stage1', 'stage3')
    assert editor.pairing is good  # the last one that can be
    assert 'cross' in editor.says.value and 'alert' in editor.says.value
    editor.reset()
    assert editor.pairing.ends == first.ends and 'alert' not in editor.says.value
    with pytest.raises(ValueError, match="did you mean 'stage1'"): editor.choose('stage_1', 'stage1')

# --- what cannot be paired

class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 1, 1), nn.Linear(8, 10)
    def forward(self, x): return self.fc(self.conv(x).mean((2, 3)))

class TiedFirst(TiedStages):
    "Lists what is tied before its stem"
    def __init__(self):
        super().__init__()
        self.stem = self._modules.pop('stem')

own = Own()

@pytest.mark.filterwarnings('ignore')  # of torch.ao, old as it is
@pytest.mark.parametrize('teacher, student, error, says', [
    (own, own, ValueError, 'are the same object'), (nn.Sequential(own), own, ValueError, 'share parameters, such as'),
    ('resnet18', own, TypeError, 'the teacher is a str; expected an nn.Module'),
    (own, Own, TypeError, 'the student is the class Own; call it first'),
    (Flat(), Own(), ValueError, 'the teacher: Flat never lowers the resolution'),
    (Own(), Flat(), ValueError, 'the student: Flat never lowers the resolution'),
    (Own(), TiedStages(), ValueError, 'the student: block.0.weight is used in stage1 and in stage2'),
    (Own(), TiedFirst(), ValueError, 'the student: block.0.weight is used in stage1 and in stage2'),
    (quantized, Own(), ValueError, 'the teacher: 1.2 is quantized.*give the float teacher that it was made from'),
    (Own(), quantized, ValueError, 'the student: 1.2 is quantized.*A student is quantized when it is trained'),
    (torchvision.models.resnet18().half(), Own(), ValueError, r'weights of the teacher are torch.float16.*call .float\(\) on it'),
    (Own(), Own().bfloat16(), ValueError, r'weights of the student are torch.bfloat16.*learn.to_bf16\(\)'),
    (Own(), Own().requires_grad_(False), ValueError, 'stage1 of the student is frozen'),
    (Own(), staged(4), ValueError, r"the student takes 1 channel\(s\), the learner's images have 3.*mode='L'")])
def test_bad_pairs(teacher, student, error, says):
    teacher, student = (f() if f is quantized else f for f in (teacher, student))
    nets = [n for n in (teacher, student) if isinstance(n, nn.Module)]
    before = snapshot(*nets)
    with pytest.raises(error, match=says): pair_stages(teacher, student, torch.rand(2, 3, 64, 64))
    assert not moved(before, *nets)

@pytest.mark.parametrize('teacher, student', [(Listed, Own), (Own, Listed), (Listed, Listed)])
def test_modules_listed_in_another_order(teacher, student):
    color = torch.rand(2, 3, 64, 64)
    for x in (color, None):  # and of the student's own shape
        pairing = pair_stages(teacher(), student(), x)
        assert len(pairing.ends) == 2 and pairing.converter is None
    assert pair_stages(Listed(1), Listed(), color).converter.channels == 1
    with pytest.raises(ValueError, match=r'the student takes 1 channel\(s\)'): pair_stages(Own(), Listed(1), color)

def test_gray_against_color_names_what_can_be_done():
    "And no more than the student's library can"
    gray, nets = torch.rand(2, 1, 64, 64), (torchvision.models.resnet18(), timm.create_model('resnet10t'), Own())
    says = r"images have 1; load them in color, e.g. folder_dls\(..., mode='RGB'\)"
    mores = '$', ", or build the student with timm's in_chans=1$", r', or build the student for 1 channel\(s\)$'
    for net, more in zip(nets, mores):
        with pytest.raises(ValueError, match=says + more): pair_stages(Own(), net, gray)
    pair_stages(Own(), timm.create_model('resnet10t', in_chans=1), gray)  # the cure works

def test_small_images_name_the_cure_of_each():
    small, deep = torch.rand(2, 3, 32, 32), torchvision.models.resnet18
    says = r'the teacher: .*give larger ones: teacher_input=dict\(size=...\)'
    with pytest.raises(ValueError, match=says): pair_stages(deep(), Own(), small)
    assert pair_stages(deep(), Own(), small, teacher_input=dict(size=64)).converter.size == (64, 64)  # the cure works
    says = 'the student: .*give larger ones: larger images for the learner'
    with pytest.raises(ValueError, match=says): pair_stages(Own(), deep(), small)
    says = r'SqueezeNet cannot run on images \(2, 3, 8, 8\); give it some of its own: teacher_input='
    with pytest.raises(ValueError, match=says): pair_stages(torchvision.models.squeezenet1_1(), Own(), small[..., :8, :8])

def test_half_precision_is_refused_by_the_fit_too():
    for nets, who in (((staged(8).half(), staged(4)), 'teacher'), ((staged(8), staged(4).bfloat16()), 'student')):
        with pytest.raises(ValueError, match=f'weights of the {who} are'): new_learner(nets[1], small_dls()).fit_sskd(nets[0])

def test_a_frozen_teacher_is_fine():
    assert len(pair_stages(Own().eval().requires_grad_(False), Own(), torch.rand(2, 3, 64, 64)).ends) == 2

def test_bad_data():
    with pytest.raises(TypeError, match="expected the learner's DataLoaders"): pair_stages(Own(), own, 'photos')
    says = r'expected some of .* images, \(b,c,h,w\)'
    with pytest.raises(ValueError, match=says): pair_stages(Own(), own, torch.rand(3, 64, 64))

def test_fit_names_the_cure():
    with pytest.raises(ValueError, match=r'the teacher 2 .*pair_stages\(teacher, student, learn.dls\)'):
        new_learner(staged(4)).fit_sskd(merged(staged(8), ['stage2', 'stage3']))
    with pytest.raises(ValueError, match=r'(?s)teacher_input=dict\(size=.*pair_stages\(teacher, learn.model, learn.dls\)'):
        new_learner(staged(4)).fit_sskd(torchvision.models.resnet18())

def test_learner_stands_for_its_loaders():
    learn = new_learner(staged(4), small_dls())
    assert pair_stages(staged(8), learn.model, learn).x.shape == (2, 1, 10, 10)
