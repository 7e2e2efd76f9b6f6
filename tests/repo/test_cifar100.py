"""The study on CIFAR-100: a part that chooses among more learning rates waits until they are tried."""
import sys

import pytest

from conftest import root

sys.path.insert(0, str(root/'benchmarks'))
import cifar100  # noqa: E402
from rows import append_rows  # noqa: E402

def write_tries(path, monkeypatch, labels):
    "Accuracies of labels by learning rate, and of KD, whose best rate is not the largest"
    monkeypatch.setattr(cifar100, 'TUNING', path)
    rows = [dict(method='labels', lr=lr, accuracy_valid=accuracy) for lr, accuracy in labels.items()]
    rows += [dict(method='kd', lr=lr, accuracy_valid=accuracy) for lr, accuracy in ((2e-3, 30), (5e-3, 40), (1.2e-2, 35))]
    append_rows(path, ['method', 'lr', 'accuracy_valid'], rows)

@pytest.fixture
def part(): return cifar100.config()['b'] | dict(methods=['labels', 'kd'])

def test_a_part_waits_for_its_rates(tmp_path, monkeypatch, part):
    write_tries(tmp_path/'tuning.csv', monkeypatch, labels={2e-3: 10, 5e-3: 20, 1.2e-2: 30})
    with pytest.raises(SystemExit, match='0.03 is not tried yet for labels; run: python benchmarks/cifar100.py tune'):
        cifar100.check_tuned(part)
    cifar100.check_tuned(part | dict(more_rates=False))   # part a chose among the first three

def test_then_it_chooses_among_all(tmp_path, monkeypatch, part):
    write_tries(tmp_path/'tuning.csv', monkeypatch, labels={2e-3: 10, 5e-3: 20, 1.2e-2: 30, 3e-2: 31})
    cifar100.check_tuned(part)
    assert cifar100.chosen(cifar100.rates_of(part)) == dict(labels=3e-2, kd=5e-3)
    assert cifar100.chosen(cifar100.rates_of(cifar100.config()['a'])) == dict(labels=1.2e-2, kd=5e-3)

def test_part_c_waits_for_its_own_teacher(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cifar100, 'weights_of', lambda name: tmp_path/name)
    monkeypatch.setattr(sys, 'argv', ['cifar100.py', 'c', '--data', str(tmp_path)])
    (tmp_path/'resnet56').touch()   # that of a and b
    with pytest.raises(SystemExit): cifar100.main()
    assert 'resnet56_longer is missing' in capsys.readouterr().err
