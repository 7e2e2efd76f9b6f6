"""Every fastai feature that was tried, and what came of it: one row each, with the test that tries it.

    PYTHONPATH=tests python -m helpers.features      writes the table into nbs/pages/fastai_features.ipynb
"""
import json
from pathlib import Path

root = Path(__file__).resolve().parents[2]
page = root/'nbs/pages/fastai_features.ipynb'
callbacks, learners, uses, phases = ('tests/distill/test_fastai_callbacks.py', 'tests/distill/test_learners.py',
                                     'tests/data/test_fastai_uses.py', 'tests/distill/test_edges.py')

# a callback that works once something is said: what
changes = dict(
    ParamScheduler='`fit=Learner.fit`: the default, `fit_one_cycle`, schedules the learning rate itself',
    SkipToEpoch='`fit=Learner.fit, start_epoch=1`',
    TensorBoardCallback='`log_preds=False`; or `LogRun(SummaryWriter(), maps=4)`, whose steps count on across phases')

# what fastai itself puts on a learner, or what is for texts: by what means you meet it
elsewhere = dict(
    CastToTensor='on every learner', Recorder='on every learner', ProgressCallback='on every learner', TrainEvalCallback='on every learner',
    GatherPredsCallback='in `get_preds`', LRFinder='in `lr_find`', MixedPrecision='in `to_fp16`, on a GPU; on a CPU `Bf16`',
    NonNativeMixedPrecision='replaced by `MixedPrecision`', ModelToHalf='with NonNativeMixedPrecision', HookCallback='the base of others',
    MixHandler='the base of MixUp and CutMix', ModelResetter='for texts', RNNCallback='for texts', RNNRegularizer='for texts',
    TensorBoardBaseCallback='the base of the other two', TensorBoardProjectorCallback='in `get_preds`')

# feature, test file, test
others = [
    ('`vision_learner` as student, `vision_learner` as teacher', learners, 'test_the_learner_keeps_its_own'),
    ('afterwards: `fine_tune`, `fit_one_cycle`, `lr_find`, `freeze`, `save` and `load`, `validate`, `get_preds`', learners, 'test_what_works_afterwards'),
    ('`learn.export`, `load_learner(...).predict(path)`', learners, 'test_export_and_predict'),
    ('any `nn.Module`, `Learner` or `StagedNet` as teacher; any of the networks as student', learners, 'test_kinds'),
    ('a learner frozen by `freeze()`', learners, 'test_frozen_by_fastai'),
    ('loaders with `Normalize` of their own', learners, 'test_the_teachers_own_normalization'),
    ('epochs, `lr` and adapter by stage', learners, 'test_settings_by_stage'),
    ('`dls.vocab` as `CategoryMap`', uses, 'test_vocab'),
    ('`learn.predict` of a path, bytes, a PIL image, an array', uses, 'test_predict'),
    ('`dls.test_dl(paths)` and `get_preds`', uses, 'test_a_test_set'),
    ('`show_batch`, `show_results`', uses, 'test_shown'),
    ('`ClassificationInterpretation`: confusion matrix, top losses, report', uses, 'test_interpretation'),
    ('`export` of a learner on our loaders', uses, 'test_exported')]

def rows():
    "(feature, verdict, how, file, test) of every feature"
    from distill import test_fastai_callbacks as t
    for name in sorted(t.works, key=str.lower): yield f'`{name}`', 'works', '', callbacks, 'test_works'
    for name in t.with_a_change: yield f'`{name}`', 'works with a change', changes[name], callbacks, 'test_works_with_a_change'
    for name, (_, says) in t.refused.items():
        yield f'`{name}` with its defaults', 'refused', f'"... {says}"', callbacks, 'test_refused_with_a_sentence'
    for name in sorted(t.elsewhere, key=str.lower): yield f'`{name}`', 'not for `cbs`', elsewhere[name], callbacks, 'test_all_are_here'
    for feature, file, test in others: yield feature, 'works', '', file, test
    yield '`to_channelslast` with fewer than 16 channels, on a CPU', 'refused', 'it would end the process; `learn.to_contiguous()`', phases, 'test_channels_last_on_a_cpu'

def table():
    "In markdown"
    lines = ['| feature | verdict | how | tried in |', '| --- | --- | --- | --- |']
    for feature, verdict, how, file, test in rows():
        lines.append(f'| {feature} | {verdict} | {how} | [`{test}`](../../{file}) |')
    return '\n'.join(lines)

def main():
    nb = json.loads(page.read_text(encoding='utf-8'))
    cell = next(c for c in nb['cells'] if c['id'] == 'features')
    cell['source'] = table().splitlines(keepends=True)
    page.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')

if __name__ == '__main__': main()
